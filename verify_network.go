package pixmed

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// ClientNetworks verifies that the client's address is in one of the networks.
//
// The client is the connection's peer. If that is one of the trusted proxies,
// the client is the last address in X-Forwarded-For that is not itself a trusted
// proxy; anything to its left may be forged. Without trusted proxies
// X-Forwarded-For is ignored.
func ClientNetworks(networks []netip.Prefix, trustedProxies ...netip.Prefix) Verifier {
	var problems []error
	if len(networks) == 0 {
		problems = append(problems, errors.New("ClientNetworks: no network was given"))
	}
	allowed, err := newPrefixes("network", networks)
	problems = append(problems, err)
	trusted, err := newPrefixes("trusted proxy", trustedProxies)
	problems = append(problems, err)
	return verifier{
		problem: errors.Join(problems...),
		check: func(r *http.Request, _ func() ([]byte, error)) error {
			client, err := clientAddr(r, trusted)
			if err != nil {
				return err
			}
			if !allowed.contain(client) {
				return fmt.Errorf("client address %s is in none of the networks", client)
			}
			return nil
		},
	}
}

func clientAddr(r *http.Request, trusted prefixes) (netip.Addr, error) {
	client, ok := parseHop(r.RemoteAddr)
	if !ok {
		return client, fmt.Errorf("the connection's peer %q has no IP address", clip(r.RemoteAddr, maxFound))
	}
	forwarded := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	for more := forwarded != ""; more && trusted.contain(client); {
		comma := strings.LastIndexByte(forwarded, ',')
		hop := strings.TrimSpace(forwarded[comma+1:])
		if more = comma >= 0; more {
			forwarded = forwarded[:comma]
		}
		if client, ok = parseHop(hop); !ok {
			return client, fmt.Errorf("X-Forwarded-For has %q in place of an address", clip(hop, maxFound))
		}
	}
	return client, nil
}

// parseHop parses an address with or without a port.
func parseHop(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone(""), true
}

type prefixes []netip.Prefix

// newPrefixes converts IPv4 networks that are given as IPv6
// (::ffff:10.0.0.0/104) to IPv4, the form in which addresses are compared.
func newPrefixes(what string, given []netip.Prefix) (prefixes, error) {
	ps := make(prefixes, 0, len(given))
	var problems []error
	for i, p := range given {
		if p.IsValid() && p.Addr().Is4In6() {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !p.IsValid() {
			problems = append(problems, fmt.Errorf("ClientNetworks: %s %d is not a valid prefix", what, i+1))
		}
		ps = append(ps, p)
	}
	return ps, errors.Join(problems...)
}

func (ps prefixes) contain(a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
