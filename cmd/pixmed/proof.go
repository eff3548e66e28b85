package main

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/internal/text"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// What proves that a webhook comes from the gateway, the same for who sends one and
// for who receives it.
var (
	proofVerify     = &setting{flag: "verify", variable: "PIXMED_VERIFY", arg: "PROOF", value: "header", usage: "how a webhook proves that it comes from the gateway: header, query, basic, hmac, networks or none; + joins those that must all hold (hmac+networks), a comma separates alternatives (header,hmac)"}
	proofHeader     = &setting{flag: "webhook-header", variable: "PIXMED_WEBHOOK_HEADER", arg: "NAME", value: "X-Webhook-Secret", usage: "for header: name of the header with the secret"}
	proofSecrets    = &setting{variable: "PIXMED_WEBHOOK_SECRETS", usage: "for header: the secret; several, with spaces between, while one is being replaced"}
	proofQuery      = &setting{flag: "webhook-query", variable: "PIXMED_WEBHOOK_QUERY", arg: "NAME", value: "token", usage: "for query: name of the parameter with the secret"}
	proofQuerys     = &setting{variable: "PIXMED_WEBHOOK_QUERY_SECRETS", usage: "for query: the secret, or several"}
	proofUser       = &setting{flag: "webhook-user", variable: "PIXMED_WEBHOOK_USER", arg: "NAME", value: "gateway", usage: "for basic: user name of HTTP Basic"}
	proofPasswords  = &setting{variable: "PIXMED_WEBHOOK_PASSWORDS", usage: "for basic: the password, or several"}
	proofHMACHeader = &setting{flag: "webhook-hmac-header", variable: "PIXMED_WEBHOOK_HMAC_HEADER", arg: "NAME", value: "X-Signature", usage: "for hmac: name of the header with the HMAC-SHA256 of the body"}
	proofHMACPrefix = &setting{flag: "webhook-hmac-prefix", variable: "PIXMED_WEBHOOK_HMAC_PREFIX", arg: "TEXT", usage: "for hmac: text before the HMAC, such as sha256="}
	proofHMACs      = &setting{variable: "PIXMED_WEBHOOK_HMAC_SECRETS", usage: "for hmac: the key, or several"}
)

var proofSettings = []*setting{
	proofVerify, proofHeader, proofSecrets, proofQuery, proofQuerys, proofUser, proofPasswords,
	proofHMACHeader, proofHMACPrefix, proofHMACs,
}

// The kinds of proof.
const (
	byHeader   = "header"
	byQuery    = "query"
	byBasic    = "basic"
	byHMAC     = "hmac"
	byNetworks = "networks"
	byNothing  = "none"
)

// proof is what the settings say about it.
type proof struct {
	any [][]string // alternatives, each of kinds that must all hold

	header, query, user, hmacHeader, hmacPrefix string
	secrets                                     map[string][]string // by kind
}

// proofSecret is where the secrets of each kind are.
var proofSecret = map[string]*setting{byHeader: proofSecrets, byQuery: proofQuerys, byBasic: proofPasswords, byHMAC: proofHMACs}

// readProof reads the settings. A secret has least characters or more.
func readProof(v *values, least int) *proof {
	p := &proof{
		header: v.header(proofHeader), query: v.text(proofQuery), user: v.user(proofUser),
		hmacHeader: v.header(proofHMACHeader), hmacPrefix: v.text(proofHMACPrefix),
		secrets: map[string][]string{},
	}
	if text.HasControl(p.hmacPrefix) {
		v.problem(proofHMACPrefix, "it contains a line break or another control character")
	}
	if p.query == "" {
		v.problem(proofQuery, "the parameter's name is empty")
	}
	used := map[string]bool{}
	for alternative := range strings.SplitSeq(v.text(proofVerify), ",") {
		var all []string
		for kind := range strings.SplitSeq(alternative, "+") {
			kind = strings.ToLower(strings.TrimSpace(kind))
			if proofSecret[kind] == nil && kind != byNetworks && kind != byNothing {
				v.problem(proofVerify, "%s is not one of header, query, basic, hmac, networks and none, with + between those that must all hold and a comma between alternatives", quote(kind))
				continue
			}
			all, used[kind] = append(all, kind), true
		}
		p.any = append(p.any, all)
	}
	if used[byNothing] && len(used) > 1 {
		v.problem(proofVerify, "none cannot be combined with others")
	}
	for _, kind := range []string{byHeader, byQuery, byBasic, byHMAC} {
		s := proofSecret[kind]
		switch {
		case used[kind]:
			p.secrets[kind] = v.several(s, least)
			if len(p.secrets[kind]) == 0 && !v.isSet(s) {
				v.problem(s, "it is not set, but --verify asks for %s: make a secret with openssl rand -hex 32, and give it to the gateway", kind)
			}
		case v.isSet(s):
			v.problem(s, "it is set, but --verify does not ask for %s: add it, or unset the secret", kind)
		}
	}
	return p
}

// signers prove what the first of the alternatives asks for, with the first of its
// secrets.
func (p *proof) signers() (signers []pixmedtest.Signer) {
	for _, kind := range p.any[0] {
		switch kind {
		case byHeader:
			signers = append(signers, pixmedtest.HeaderSecret(p.header, p.secrets[kind][0]))
		case byQuery:
			signers = append(signers, pixmedtest.QuerySecret(p.query, p.secrets[kind][0]))
		case byBasic:
			signers = append(signers, pixmedtest.BasicAuth(p.user, p.secrets[kind][0]))
		case byHMAC:
			signers = append(signers, pixmedtest.HMACSHA256(p.hmacHeader, p.hmacPrefix, p.secrets[kind][0]))
		}
	}
	return signers
}

// uses reports whether an alternative asks for a kind.
func (p *proof) uses(kind string) bool {
	return slices.ContainsFunc(p.any, func(all []string) bool { return slices.Contains(all, kind) })
}

// verifier checks what the settings ask for.
func (p *proof) verifier(networks, proxies []netip.Prefix) pixmed.Verifier {
	var alternatives []pixmed.Verifier
	for _, kinds := range p.any {
		var all []pixmed.Verifier
		for _, kind := range kinds {
			switch secrets := p.secrets[kind]; kind {
			case byHeader:
				all = append(all, pixmed.HeaderSecret(p.header, secrets...))
			case byQuery:
				all = append(all, pixmed.QuerySecret(p.query, secrets...))
			case byBasic:
				all = append(all, pixmed.BasicAuth(p.user, secrets...))
			case byHMAC:
				all = append(all, pixmed.HMACSHA256(p.hmacHeader, p.hmacPrefix, secrets...))
			case byNetworks:
				all = append(all, pixmed.ClientNetworks(networks, proxies...))
			}
		}
		alternatives = append(alternatives, pixmed.All(all...))
	}
	return pixmed.Any(alternatives...)
}

// all returns the secrets of every kind.
func (p *proof) all() text.Secrets {
	return text.NewSecrets(slices.Concat(slices.Collect(maps.Values(p.secrets))...)...)
}

// showsSecret reports whether requests carry a secret that anybody who reads them
// learns.
func (p *proof) showsSecret() bool {
	return slices.ContainsFunc(p.any[0], func(kind string) bool { return kind == byHeader || kind == byQuery || kind == byBasic })
}
