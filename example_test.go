package guado_test

import (
	"context"
	"log"
	"net/http"
	"os/signal"
	"syscall"

	"github.com/guado-server/guado"
)

// A legacy site beside a new API in Go, until SIGTERM.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	config := guado.Default()
	config.Server.Listen = []string{"127.0.0.1:8080"}
	s := guado.New(config)

	shop := guado.WSGI("shop.wsgi:application")
	shop.Dir, shop.Threads = "shop", 4
	s.Mount("/", shop)
	s.Mount("/static", guado.Static("shop/static"))
	s.Mount("/api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("path inside the mount: " + r.URL.Path))
	}))
	s.Mount("/", guado.Redirect("https://www.example.org/"), guado.Host("example.org"))

	if err := s.Run(ctx); err != nil {
		log.Print(err)
	}
}
