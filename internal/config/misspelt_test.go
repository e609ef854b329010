package config

import (
	"slices"
	"testing"
)

func TestAVariableWithTooFewUnderscoresIsPointedOut(t *testing.T) {
	got := Misspelt([]string{
		"GUADO_SERVER_LISTEN=:80", "GUADO_SERVER__TLS_CERT=x", "GUADO_LOG_LEVEL=debug", "GUADO_APP_MY_SHOP_BOOT_TIMEOUT=3",
		"GUADO__SERVER__LISTEN=:80", "GUADO_INSTANCE=x", "GUADO_CACHE_DIR=/x", "GUADO_LINK=x", "GUADO_PACKAGE=x",
		"GUADO_SHOP_NAME=x", "GUADO_APP_THREADS=3", "SERVER_LISTEN=x", "PATH=/bin",
	})
	want := []string{
		"GUADO_APP_MY_SHOP_BOOT_TIMEOUT has no effect; did you mean GUADO__APP__MY_SHOP__BOOT_TIMEOUT?",
		"GUADO_LOG_LEVEL has no effect; did you mean GUADO__SERVER__LOG_LEVEL?",
		"GUADO_SERVER_LISTEN has no effect; did you mean GUADO__SERVER__LISTEN?",
		"GUADO_SERVER__TLS_CERT has no effect; did you mean GUADO__SERVER__TLS__CERT?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
