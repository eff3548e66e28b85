package pixmed

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientNetworks verifies that the client's address is in one of the networks.
//
// The client is the connection's peer. If that is one of the trusted proxies,
// the client is the last address in X-Forwarded-For that is not itself a trusted
// proxy; anything to its left may be forged. Without trusted proxies
// X-Forwarded-For is ignored.
func ClientNetworks(networks []netip.Prefix, trustedProxies ...netip.Prefix) Verifier {
	networks, problems := unmapped("network", networks)
	if len(networks) == 0 {
		problems = append(problems, errors.New("no network was given"))
	}
	trustedProxies, more := unmapped("trusted proxy", trustedProxies)
	return newVerifier("ClientNetworks", func(r *http.Request, _ func() ([]byte, error)) error {
		client, err := clientAddr(r, trustedProxies)
		if err != nil {
			return err
		}
		if !contain(networks, client) {
			return fmt.Errorf("client address %s is in none of the networks", client)
		}
		return nil
	}, append(problems, more...)...)
}

func clientAddr(r *http.Request, trusted []netip.Prefix) (netip.Addr, error) {
	client, ok := parseHop(r.RemoteAddr)
	if !ok {
		return client, fmt.Errorf("the connection's peer %q has no IP address", clip(r.RemoteAddr))
	}
	forwarded := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	for more := forwarded != ""; more && contain(trusted, client); {
		comma := strings.LastIndexByte(forwarded, ',')
		hop := strings.TrimSpace(forwarded[comma+1:])
		if more = comma >= 0; more {
			forwarded = forwarded[:comma]
		}
		if client, ok = parseHop(hop); !ok {
			return client, fmt.Errorf("X-Forwarded-For contains %q, which is not an address", clip(hop))
		}
	}
	return client, nil
}

// parseHop parses an address with or without a port.
func parseHop(s string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	withPort, err := netip.ParseAddrPort(s)
	return withPort.Addr().Unmap().WithZone(""), err == nil
}

func contain(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// unmapped returns the networks, with IPv4 ones that are given as IPv6
// (::ffff:10.0.0.0/104) as IPv4, the form in which addresses are compared.
func unmapped(what string, given []netip.Prefix) (networks []netip.Prefix, problems []error) {
	networks = slices.Clone(given)
	for i, p := range networks {
		if p.IsValid() && p.Addr().Is4In6() {
			networks[i] = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !networks[i].IsValid() {
			problems = append(problems, fmt.Errorf("%s %d is not a valid prefix", what, i+1))
		}
	}
	return networks, problems
}
