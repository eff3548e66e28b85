// Command verify builds the verifier of docs/security.md.
package main

import (
	"fmt"
	"log"
	"net/netip"
	"os"
	"strings"

	"github.com/pixmed-go/pixmed"
)

func main() {
	secrets := strings.Fields(os.Getenv("PIXMED_WEBHOOK_SECRETS"))
	verifier := pixmed.All(
		pixmed.HeaderSecret("X-Webhook-Secret", secrets...),
		pixmed.ClientNetworks([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}),
	)
	if _, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore), pixmed.WithVerifier(verifier)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the verifier is complete")
}
