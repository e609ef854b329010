package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Misspelt warns of variables that look like overrides and are none, because a single
// underscore stands where two belong: GUADO_SERVER_LISTEN. They are no errors, as an
// application may have variables of such names.
func Misspelt(environ []string) []string {
	var warnings []string
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(name, "GUADO_")
		if !ours || strings.HasPrefix(name, EnvPrefix) || knownVariable[name] {
			continue
		}
		if meant := override(strings.ReplaceAll(strings.ToUpper(rest), "__", "_")); meant != "" {
			warnings = append(warnings, fmt.Sprintf("%s has no effect; did you mean %s%s?", name, EnvPrefix, meant))
		}
	}
	return warnings
}

// knownVariable are those with one underscore that mean something.
var knownVariable = map[string]bool{"GUADO_INSTANCE": true, "GUADO_CACHE_DIR": true, "GUADO_LINK": true, "GUADO_PACKAGE": true,
	"GUADO_PUSH": true, "GUADO_PUSH_TOKEN": true, "GUADO_TEST": true}

// override finds the variable, without its prefix, whose words are these: SERVER_LISTEN,
// or LISTEN alone, is SERVER__LISTEN; APP_SHOP_THREADS is APP__SHOP__THREADS.
func override(words string) string {
	for _, f := range fieldsOf(reflect.TypeFor[Config]()) {
		table := strings.ToUpper(f.key)
		if kindOf(f.typ) == kindTable {
			for _, name := range leafNames(f.typ) {
				if flat := strings.ReplaceAll(name, "__", "_"); words == flat || words == table+"_"+flat {
					return table + "__" + name
				}
			}
			continue
		}
		element, found := strings.CutPrefix(words, table+"_")
		if !found {
			continue
		}
		best := ""
		for _, name := range leafNames(f.typ.Elem()) {
			flat := "_" + strings.ReplaceAll(name, "__", "_")
			if given := strings.TrimSuffix(element, flat); given != element && given != "" && len(name) > len(best) {
				best = name
			}
		}
		if best != "" {
			return table + "__" + element[:len(element)-len(strings.ReplaceAll(best, "__", "_"))-1] + "__" + best
		}
	}
	return ""
}

// leafNames spells all keys below a table as variables do: TLS__CERT.
func leafNames(t reflect.Type) []string {
	var names []string
	for _, f := range fieldsOf(t) {
		key := strings.ToUpper(f.key)
		if kindOf(f.typ) != kindTable {
			names = append(names, key)
			continue
		}
		for _, below := range leafNames(f.typ) {
			names = append(names, key+"__"+below)
		}
	}
	return names
}
