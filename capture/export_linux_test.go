package capture

import "testing"

// What the tests of package capture_test use as well.
var (
	InNamespace = inNamespace
	Veth        = veth
	LoadFrames  = loadFrames
	SendPaced   = sendPaced
	LostBefore  = lostBefore
)

// Connect waits until an interface delivers to the source.
func Connect(t *testing.T, s Source, far string) {
	t.Helper()
	connect(t, s, 0, far)
}

// InjectFrames makes frames as if the interface had received them.
func InjectFrames(t *testing.T, name string, frame []byte, n int) int {
	t.Helper()
	return injectXDP(t, name, xdpPass, frame, n)
}
