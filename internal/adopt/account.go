package adopt

import (
	"path/filepath"
	"slices"
	"strings"
)

// cite gives where a statement stands, for the output. What the output cites is not
// lost: rest notes all other statements.
func (b *block) cite() string {
	b.told = true
	return source(b.file, b.line)
}

// cites gives where several stand: "nginx.conf:6, :7".
func cites(blocks ...*block) string {
	var places []string
	for i, b := range blocks {
		place := b.cite()
		if i > 0 && b.file == blocks[i-1].file {
			place = strings.TrimPrefix(place, filepath.Base(b.file))
		}
		if !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	return strings.Join(places, ", ")
}

// cover says that a statement is told of with all that stands in it.
func (b *block) cover() {
	b.told = true
	for _, each := range b.inside {
		each.cover()
	}
}

// refuse notes a statement that is not carried over, with all that stands in it.
func (s *site) refuse(t *table, b *block, why string, args ...any) {
	b.cover()
	s.miss(t, b.cite(), b.text(), why, args...)
}

// elsewhereHere are statements that are carried over once, or where a mount asks for
// them, and have no place where they are left.
var elsewhereHere = map[string]string{
	"access_log": "one access log has all requests, in the form of access_log_format", "log_format": "access_log_format is combined, extended or json",
	"error_log": "the log goes to standard error: log_level, log_format", "gzip_types": "what is text is compressed, whatever its kind",
	"client_max_body_size": "body_limit of a [[mount]] is for requests that it answers", "ssl_ciphers": "Go's choice of ciphers is used",
	"expires":            "cache_control is for folders; an application sets its own, or set_headers",
	"proxy_send_timeout": "there is no time for sending to an upstream", "large_client_header_buffers": "limits.head and limits.target",
	"proxy_read_timeout": "answer_timeout is for upstreams, request_timeout for apps", "client_header_timeout": "one value counts for all hosts",
	"client_body_timeout": "one value counts for all hosts; a [[mount]] has read_idle", "send_timeout": "one value counts for all hosts; a [[mount]] has write_idle",
	"keepalive_timeout": "one value counts for all hosts", "keepalive_requests": "one value counts for all hosts", "gzip_min_length": "one value counts for all hosts",
	"upstream": "no location leads to it", "index": "no folder is served there", "root": "no location serves files of it",
	"add_header": "no mount answers with it", "try_files": "no folder is served there", "internal": "only folders can be internal: see sendfile of [[mount]]",
	"proxy_redirect": "Location is passed on as the upstream wrote it",
}

// needless are statements whose part Guado plays by itself, or that speak of nginx's
// own workings.
var needless = []string{
	"worker_processes", "worker_connections", "worker_rlimit_nofile", "pid", "user", "daemon", "multi_accept", "use", "accept_mutex", "lock_file",
	"sendfile", "tcp_nopush", "tcp_nodelay", "aio", "directio", "open_file_cache", "types", "types_hash_max_size", "types_hash_bucket_size",
	"server_names_hash_bucket_size", "server_names_hash_max_size", "variables_hash_max_size", "variables_hash_bucket_size", "map_hash_bucket_size",
	"default_type", "server_tokens", "log_not_found", "proxy_http_version", "proxy_buffering", "proxy_buffers", "proxy_buffer_size",
	"proxy_busy_buffers_size", "proxy_request_buffering", "proxy_headers_hash_max_size", "proxy_headers_hash_bucket_size", "proxy_connect_timeout",
	"proxy_max_temp_file_size", "client_body_buffer_size", "client_header_buffer_size", "client_body_temp_path", "client_body_in_file_only",
	"reset_timedout_connection", "ssl", "ssl_session_cache", "ssl_session_timeout", "ssl_session_tickets", "ssl_prefer_server_ciphers", "ssl_protocols",
	"ssl_dhparam", "ssl_ecdh_curve", "resolver", "resolver_timeout", "gzip", "gzip_vary", "gzip_proxied", "gzip_comp_level", "gzip_buffers",
	"gzip_http_version", "gzip_disable", "gzip_static", "http2", "real_ip_header", "real_ip_recursive", "keepalive", "server_name", "autoindex",
	"satisfy", "etag", "absolute_redirect", "port_in_redirect", "server_name_in_redirect", "chunked_transfer_encoding", "if_modified_since",
	"limit_req_status", "limit_req_log_level", "proxy_intercept_errors", "proxy_socket_keepalive", "auth_basic", "events",
}

// isNeedless tells statements that nothing is lost with.
func isNeedless(b *block) bool {
	switch b.name {
	case "proxy_set_header":
		return slices.Contains(toldAnyway, strings.ToLower(b.arg(0)))
	case "include":
		return slices.Contains(standard, filepath.Base(b.arg(0))) || strings.ContainsAny(b.arg(0), "*?[")
	case "access_log", "proxy_redirect", "error_page":
		return b.arg(0) == "off"
	case "map":
		return b.arg(0) == "$http_upgrade"
	case "autoindex", "satisfy", "gzip", "gzip_static", "http2", "auth_basic":
		return b.arg(0) != "on" || b.name == "http2" || b.name == "gzip"
	}
	return slices.Contains(needless, b.name)
}

// spare names a statement in the list of those that nothing is lost with.
func (s *site) spare(b *block) {
	b.cover()
	what := b.name
	if slices.Contains([]string{"location", "include", "proxy_set_header", "access_log", "map", "proxy_redirect", "return"}, b.name) {
		what = b.text()
	}
	s.needsNot(nil, "nginx", what)
}

// rest goes over all statements and tells of those that the output does not cite.
func (s *site) rest(b *block, t *table) {
	for _, each := range b.inside {
		beside := t
		if own := s.tables[each]; own != nil {
			beside = own
		}
		switch why := noCounterpart[each.name]; {
		case each.told, each.name == "http", each.name == "server" && len(each.inside) > 0:
			s.rest(each, beside)
		case each.name == "events":
			each.told = true
			s.rest(each, beside)
		case isNeedless(each):
			s.spare(each)
		case why != "":
			s.refuse(beside, each, "%s", why)
		case elsewhereHere[each.name] != "":
			s.refuse(beside, each, "%s", elsewhereHere[each.name])
		case each.name == "include":
			s.refuse(beside, each, "the file could not be read")
		case each.name == "proxy_set_header":
			s.refuse(beside, each, "no fields are added to requests")
		default:
			s.refuse(beside, each, "there is nothing like it, or no mount that it is for")
		}
	}
}
