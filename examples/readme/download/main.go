// Command download is the download of the README.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/pixmed-go/pixmed"
)

func main() {
	client, err := pixmed.NewClient("https://gateway.example/v1",
		pixmed.WithHeader("api_key", os.Getenv("PIXMED_GATEWAY_KEY")),
		pixmed.WithHeader("api_secret", os.Getenv("PIXMED_GATEWAY_SECRET")))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	receipt, err := client.SaveReceipt(ctx, "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5", "receipt.pdf")
	if err != nil {
		log.Fatal(err) // and there is no receipt.pdf
	}
	fmt.Println(receipt.Size, "bytes, SHA-256", receipt.SHA256)
}
