package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// Every kind of credentials reaches the gateway.
func TestGatewayCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  map[string]string
		want map[string]string // headers
	}{
		"none":    {nil, map[string]string{"Authorization": "", "Api_key": ""}},
		"key":     {map[string]string{"PIXMED_GATEWAY_KEY": gatewayKeyText}, map[string]string{"Api_key": gatewayKeyText, "Api_secret": ""}},
		"both":    {map[string]string{"PIXMED_GATEWAY_KEY": gatewayKeyText, "PIXMED_GATEWAY_SECRET": gatewayPass}, map[string]string{"Api_key": gatewayKeyText, "Api_secret": gatewayPass}},
		"token":   {map[string]string{"PIXMED_GATEWAY_TOKEN": gatewayPass}, map[string]string{"Authorization": "Bearer " + gatewayPass}},
		"basic":   {map[string]string{"PIXMED_GATEWAY_USER": "u", "PIXMED_GATEWAY_PASSWORD": "p"}, map[string]string{"Authorization": "Basic dTpw"}},
		"headers": {map[string]string{"PIXMED_GATEWAY_HEADERS": "X-Api-Key: " + gatewayKeyText + "\r\n\nX-Client:  7\n"}, map[string]string{"X-Api-Key": gatewayKeyText, "X-Client": "7"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got http.Header
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r.Header
				w.WriteHeader(http.StatusNotFound)
			}))
			t.Cleanup(server.Close)
			env := map[string]string{"PIXMED_GATEWAY": server.URL, "PIXMED_RECEIPTS": t.TempDir()}
			maps.Copy(env, test.env)
			if got := try(t, env, "receipts", uuid.NewString()); got.code != exitFailed {
				t.Errorf("%+v", got)
			}
			for header, want := range test.want {
				if diff := cmp.Diff(want, strings.Join(got[http.CanonicalHeaderKey(header)], ",")); diff != "" {
					t.Errorf("%s (-want +got):\n%s", header, diff)
				}
			}
		})
	}
}

// A client certificate is shown to a gateway that asks for one.
func TestGatewayMutualTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := selfSigned(t)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = mutualTLS(pool)
	server.StartTLS()
	t.Cleanup(server.Close)
	v := newTestValues(t, map[string]string{"PIXMED_GATEWAY": server.URL, "PIXMED_GATEWAY_CERT": cert, "PIXMED_GATEWAY_CERT_KEY": key}, nil, gatewaySettings...)
	g := readGateway(v)
	if err := v.err(); err != nil {
		t.Fatal(err)
	}
	g.transport.TLSClientConfig.RootCAs = pool
	pool.AddCert(server.Certificate())
	defer g.transport.CloseIdleConnections()
	client, err := g.client(g.transport)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Receipt(t.Context(), uuid.NewString())
	if err == nil || !strings.HasPrefix(explain(err), "the gateway answered 404 Not Found") {
		t.Errorf("%v", err)
	}
}

func TestGatewayMistakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"user alone":         {map[string]string{"PIXMED_GATEWAY_USER": "u"}, []string{"PIXMED_GATEWAY_USER: it needs a password, in PIXMED_GATEWAY_PASSWORD"}},
		"password alone":     {map[string]string{"PIXMED_GATEWAY_PASSWORD": gatewayPass}, []string{"PIXMED_GATEWAY_PASSWORD: it needs a user, in --gateway-user"}},
		"a colon":            {map[string]string{"PIXMED_GATEWAY_PASSWORD": gatewayPass, "PIXMED_GATEWAY_USER": "a:b"}, []string{"PIXMED_GATEWAY_USER: a user name"}},
		"token and user":     {map[string]string{"PIXMED_GATEWAY_TOKEN": gatewayPass, "PIXMED_GATEWAY_USER": "u", "PIXMED_GATEWAY_PASSWORD": gatewayPass}, []string{"only one Authorization header can be sent"}},
		"token and header":   {map[string]string{"PIXMED_GATEWAY_TOKEN": gatewayPass, "PIXMED_GATEWAY_HEADERS": "authorization: " + gatewayPass}, []string{"only one Authorization header can be sent"}},
		"bad token":          {map[string]string{"PIXMED_GATEWAY_TOKEN": gatewayPass + " x"}, []string{"PIXMED_GATEWAY_TOKEN: it contains a character"}},
		"line break":         {map[string]string{"PIXMED_GATEWAY_KEY": gatewayPass + "\nx"}, []string{"PIXMED_GATEWAY_KEY: it contains a line break"}},
		"not theirs":         {map[string]string{"PIXMED_GATEWAY_HEADERS": "Content-length: 5\nX-A: a\x01b\naccept-encoding: gzip\n", "PIXMED_GATEWAY_SECRET": " "}, []string{"PIXMED_GATEWAY_HEADERS: Content-Length cannot be set", "PIXMED_GATEWAY_HEADERS: it contains a line break or another", "PIXMED_GATEWAY_HEADERS: Accept-Encoding cannot", "PIXMED_GATEWAY_SECRET: it is empty"}},
		"control character":  {map[string]string{"PIXMED_GATEWAY_PASSWORD": gatewayPass + "\x01", "PIXMED_GATEWAY_USER": "u"}, []string{"PIXMED_GATEWAY_PASSWORD: it contains a line break or another"}},
		"key twice":          {map[string]string{"PIXMED_GATEWAY_KEY": gatewayPass, "PIXMED_GATEWAY_HEADERS": "Api_Key: " + gatewayPass}, []string{"PIXMED_GATEWAY_HEADERS: PIXMED_GATEWAY_KEY sets the same header"}},
		"no header":          {map[string]string{"PIXMED_GATEWAY_HEADERS": "X-A: b\n" + gatewayPass + "\nX-B:"}, []string{"line 2 is not", "line 3 is not"}},
		"certificate alone":  {map[string]string{"PIXMED_GATEWAY_CERT": "x"}, []string{"PIXMED_GATEWAY_CERT: it needs --gateway-cert-key as well"}},
		"certificate absent": {map[string]string{"PIXMED_GATEWAY_CERT": "/none", "PIXMED_GATEWAY_CERT_KEY": "/none"}, []string{"PIXMED_GATEWAY_CERT: want the path of a file that can be read: no such file or directory", "PIXMED_GATEWAY_CERT_KEY: want the path"}},
		"key alone":          {map[string]string{"PIXMED_GATEWAY_CERT_KEY": "x"}, []string{"PIXMED_GATEWAY_CERT_KEY: it needs --gateway-cert as well"}},
		"a query":            {map[string]string{"PIXMED_GATEWAY": "https://x/?k=" + gatewayPass}, []string{"PIXMED_GATEWAY: it must not have a query"}},
		"several":            {map[string]string{"PIXMED_GATEWAY": "x", "PIXMED_GATEWAY_PLAIN_HTTP": "x", "PIXMED_GATEWAY_TOKEN_FILE": "/none"}, []string{"PIXMED_GATEWAY: it should look like", "PIXMED_GATEWAY_PLAIN_HTTP: want true or false", "PIXMED_GATEWAY_TOKEN_FILE: want the path of a file that can be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"PIXMED_GATEWAY": "https://gateway.example"}
			maps.Copy(env, test.env)
			got := try(t, env, "receipts", uuid.NewString())
			if got.code != exitUsage {
				t.Errorf("%+v", got)
			}
			contains(t, got.err, test.want...)
			if lines := strings.Count(got.err, "\n") - 1; lines != len(test.want) {
				t.Errorf("%d lines, want %d: %s", lines, len(test.want), got.err)
			}
		})
	}
}
