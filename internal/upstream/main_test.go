package upstream_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine of the road has an owner that waits for it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
