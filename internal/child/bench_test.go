package child

import (
	"crypto/rand"
	"os"
	"testing"
)

// BenchmarkStart is a start of /bin/true to its end, with and without the first step.
func BenchmarkStart(b *testing.B) {
	for name, through := range map[string]bool{"plain": false, "first step": true} {
		b.Run(name, func(b *testing.B) {
			hooked.Store(through)
			defer hooked.Store(true)
			s := NewSpawner(Options{Instance: rand.Text()})
			defer s.Close()
			for b.Loop() {
				p, err := s.Spawn(Child{Path: "/bin/true", Env: os.Environ()})
				if err != nil {
					b.Fatal(err)
				}
				<-p.Exited()
			}
		})
	}
}
