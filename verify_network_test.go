package pixmed_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestClientNetworks(t *testing.T) {
	t.Parallel()
	networks := prefixes("203.0.113.0/24", "2001:db8:1::/48", "198.51.100.7/32")
	proxies := prefixes("10.0.0.0/8", "fd00::/8")
	outside := func(addr string) string { return "client address " + addr + " is in none of the networks" }
	malformed := func(hop string) string {
		return fmt.Sprintf("X-Forwarded-For contains %q, which is not an address", hop)
	}
	peer := func(addr string) string {
		return fmt.Sprintf("the connection's peer %q has no IP address", addr)
	}
	for _, tt := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"peer inside", "203.0.113.5:4711", nil, ""},
		{"first address of the network", "203.0.113.0:1", nil, ""},
		{"last address of the network", "203.0.113.255:1", nil, ""},
		{"next address", "203.0.114.0:1", nil, outside("203.0.114.0")},
		{"single address", "198.51.100.7:1", nil, ""},
		{"its neighbour", "198.51.100.6:1", nil, outside("198.51.100.6")},
		{"peer inside, no port", "203.0.113.5", nil, ""},
		{"IPv4 in IPv6", "[::ffff:203.0.113.5]:4711", nil, ""},
		{"IPv6", "[2001:db8:1::9]:4711", nil, ""},
		{"IPv6 without a port", "2001:db8:1::9", nil, ""},
		{"IPv6 with a zone", "[2001:db8:1::9%eth0]:4711", nil, ""},
		{"IPv6 outside", "[2001:db8:2::9]:4711", nil, outside("2001:db8:2::9")},

		{"peer inside and not a proxy: the header is ignored", "203.0.113.5:1", []string{"junk"}, ""},
		{"peer outside and not a proxy: the header is ignored too", "192.0.2.1:1", []string{"203.0.113.5"}, outside("192.0.2.1")},

		{"one proxy", "10.0.0.1:1", []string{"203.0.113.5"}, ""},
		{"one proxy, client outside", "10.0.0.1:1", []string{"192.0.2.1"}, outside("192.0.2.1")},
		{"one proxy, spoofed leftmost", "10.0.0.1:1", []string{"203.0.113.5, 192.0.2.1"}, outside("192.0.2.1")},
		{"one proxy, spoofed in a header of its own", "10.0.0.1:1", []string{"203.0.113.5", "192.0.2.1"}, outside("192.0.2.1")},
		{"one proxy, junk leftmost", "10.0.0.1:1", []string{"junk, ,203.0.113.5"}, ""},
		{"three proxies", "10.0.0.1:1", []string{"192.0.2.1, 203.0.113.5, 10.0.0.3,10.0.0.2"}, ""},
		{"three proxies in three headers", "10.0.0.1:1", []string{"203.0.113.5", "10.0.0.3", "10.0.0.2"}, ""},
		{"proxies of both families", "[fd00::1]:1", []string{"203.0.113.5, 10.0.0.3, fd00::2"}, ""},
		{"spoofed left of a hop that is no proxy", "10.0.0.1:1", []string{"203.0.113.5, 192.0.2.1, 10.0.0.2"}, outside("192.0.2.1")},
		{"hop with a port", "10.0.0.1:1", []string{"203.0.113.5:9999"}, ""},
		{"IPv6 hop", "10.0.0.1:1", []string{"2001:db8:1::9"}, ""},
		{"IPv6 hop in brackets", "10.0.0.1:1", []string{"[2001:db8:1::9]"}, ""},
		{"IPv6 hop with a port and a zone", "10.0.0.1:1", []string{"[2001:db8:1::9%eth0]:9999"}, ""},
		{"IPv4 hop in IPv6", "10.0.0.1:1", []string{"::ffff:203.0.113.5"}, ""},
		{"proxy as IPv4 in IPv6", "[::ffff:10.0.0.1]:1", []string{"203.0.113.5"}, ""},
		{"white space around", "10.0.0.1:1", []string{" \t203.0.113.5 "}, ""},

		{"proxy alone", "10.0.0.1:1", nil, outside("10.0.0.1")},
		{"proxy and an empty header", "10.0.0.1:1", []string{""}, outside("10.0.0.1")},
		{"proxies alone", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, outside("10.0.0.3")},
		{"junk", "10.0.0.1:1", []string{"junk"}, malformed("junk")},
		{"unknown", "10.0.0.1:1", []string{"203.0.113.5, unknown"}, malformed("unknown")},
		{"obfuscated", "10.0.0.1:1", []string{"_hidden"}, malformed("_hidden")},
		{"comma at the end", "10.0.0.1:1", []string{"203.0.113.5,"}, malformed("")},
		{"junk left of a proxy", "10.0.0.1:1", []string{"junk, 10.0.0.2"}, malformed("junk")},
		{"nothing left of a proxy", "10.0.0.1:1", []string{",10.0.0.2"}, malformed("")},
		{"address cut off", "10.0.0.1:1", []string{"203.0.113"}, malformed("203.0.113")},
		{"address with leading zeros", "10.0.0.1:1", []string{"203.0.113.05"}, malformed("203.0.113.05")},
		{"network in place of an address", "10.0.0.1:1", []string{"203.0.113.5/24"}, malformed("203.0.113.5/24")},
		{"kilobytes of junk", "10.0.0.1:1", []string{strings.Repeat("j", 5000)}, malformed(strings.Repeat("j", 64) + "…")},

		{"unix socket", "@", []string{"203.0.113.5"}, peer("@")},
		{"unix socket with a path", "/run/app.sock", nil, peer("/run/app.sock")},
		{"no peer", "", nil, peer("")},
		{"host name", "gateway.example:443", nil, peer("gateway.example:443")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := webhookRequest(t)
			r.RemoteAddr = tt.peer
			for _, value := range tt.forwarded {
				r.Header.Add("X-Forwarded-For", value)
			}
			checkVerdict(t, pixmed.ClientNetworks(networks, proxies...).Verify(r, noBody(t)), tt.want)
		})
	}

	t.Run("without proxies the header is ignored", func(t *testing.T) {
		t.Parallel()
		r := webhookRequest(t)
		r.RemoteAddr = "192.0.2.1:1"
		r.Header.Set("X-Forwarded-For", "203.0.113.5")
		checkVerdict(t, pixmed.ClientNetworks(networks).Verify(r, noBody(t)), outside("192.0.2.1"))
	})
	t.Run("other headers are ignored", func(t *testing.T) {
		t.Parallel()
		r := webhookRequest(t)
		r.RemoteAddr = "10.0.0.1:1"
		for _, name := range []string{"X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip"} {
			r.Header.Set(name, "203.0.113.5")
		}
		checkVerdict(t, pixmed.ClientNetworks(networks, proxies...).Verify(r, noBody(t)), outside("10.0.0.1"))
	})
	t.Run("networks given as IPv4 in IPv6", func(t *testing.T) {
		t.Parallel()
		v := pixmed.ClientNetworks(prefixes("::ffff:203.0.113.0/120"), prefixes("::ffff:10.0.0.0/104")...)
		r := webhookRequest(t)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header.Set("X-Forwarded-For", "203.0.113.5")
		checkVerdict(t, v.Verify(r, noBody(t)), "")
		r.Header.Set("X-Forwarded-For", "203.0.112.5")
		checkVerdict(t, v.Verify(r, noBody(t)), outside("203.0.112.5"))
	})
	t.Run("network with bits after its mask", func(t *testing.T) {
		t.Parallel()
		v := pixmed.ClientNetworks(prefixes("203.0.113.77/24"))
		r := webhookRequest(t)
		r.RemoteAddr = "203.0.113.5:1"
		checkVerdict(t, v.Verify(r, noBody(t)), "")
	})
	t.Run("the arguments may change afterwards", func(t *testing.T) {
		t.Parallel()
		given := prefixes("203.0.113.0/24")
		v := pixmed.ClientNetworks(given)
		given[0] = netip.MustParsePrefix("0.0.0.0/0")
		r := webhookRequest(t)
		r.RemoteAddr = "192.0.2.1:1"
		checkVerdict(t, v.Verify(r, noBody(t)), outside("192.0.2.1"))
	})
}

func FuzzClientNetworks(f *testing.F) {
	for _, seed := range [][2]string{
		{"198.51.100.9:1", "203.0.113.5"},
		{"198.51.100.9:1", "203.0.113.5, 10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.5"},
		{"10.0.0.1:1", "203.0.113.5,198.51.100.9"},
		{"[::ffff:10.0.0.1]:1", "::ffff:203.0.113.5"},
		{"[fe80::1%eth0]:1", "[2001:db8::1%25eth0]:80"},
		{"@", "@"},
		{"", ""},
		{"10.0.0.1", ",,,"},
		{"10.0.0.1:1", "203.0.113.5\x00"},
		{"10.0.0.1:1", "[[203.0.113.5]]"},
		{"10.0.0.1:1", "10.0.0.2, ::ffff:10.0.0.3,\t10.0.0.4:5"},
	} {
		f.Add(seed[0], seed[1])
	}
	networks, proxies := prefixes("203.0.113.0/24"), prefixes("10.0.0.0/8")
	v := pixmed.ClientNetworks(networks, proxies...)
	verdict := func(t *testing.T, peer string, forwarded ...string) error {
		t.Helper()
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": forwarded}}
		return v.Verify(r, noBody(t))
	}
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		// A peer that is neither inside nor a proxy gets in with no header.
		if err := verdict(t, "198.51.100.9:1", forwarded); err == nil {
			t.Errorf("X-Forwarded-For %q lets a stranger in", forwarded)
		}
		// Nor does one that a proxy has seen: the proxy appends its address, on
		// the same line or on the next.
		for _, lines := range [][]string{{forwarded + ", 198.51.100.9"}, {forwarded, "198.51.100.9"}, {forwarded + ",198.51.100.9, 10.0.0.2"}} {
			if err := verdict(t, "10.0.0.1:1", lines...); err == nil {
				t.Errorf("X-Forwarded-For %q lets a stranger in through the proxy", lines)
			}
		}
		// What a client sends does not keep it out either.
		if err := verdict(t, "10.0.0.1:1", forwarded+", 203.0.113.5"); err != nil {
			t.Errorf("X-Forwarded-For %q keeps the gateway out: %v", forwarded, err)
		}
		if err := verdict(t, "203.0.113.5:1", forwarded); err != nil {
			t.Errorf("X-Forwarded-For %q keeps the gateway out: %v", forwarded, err)
		}
		// Any peer: it has an address inside, or a proxy's.
		if err := verdict(t, peer, forwarded); err == nil {
			host := peer
			if at, err := netip.ParseAddrPort(peer); err == nil {
				host = at.Addr().String()
			}
			addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
			if err != nil {
				t.Fatalf("peer %q got in without an address", peer)
			}
			addr = addr.Unmap().WithZone("")
			if !networks[0].Contains(addr) && !proxies[0].Contains(addr) {
				t.Errorf("peer %q got in with X-Forwarded-For %q", peer, forwarded)
			}
		}
	})
}
