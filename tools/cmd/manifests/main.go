// Command manifests reads the Kubernetes manifests in deploy as strictly as an API
// server does that refuses unknown fields:
//
//	cd tools && GOWORK=off go run ./cmd/manifests
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
)

func main() {
	if err := run("../deploy/kubernetes"); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s holds no manifests", dir)
	}
	var errs []error
	for _, file := range files {
		kinds, err := read(decoder, file)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			continue
		}
		fmt.Println(file, kinds)
	}
	return errors.Join(errs...)
}

// read returns the kinds of the objects in a file.
func read(decoder runtime.Decoder, file string) (kinds []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	documents := yaml.NewDocumentDecoder(f) // which closes it
	defer func() { err = errors.Join(err, documents.Close()) }()
	buffer := make([]byte, 1<<20)
	for {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return kinds, nil
		}
		if err != nil {
			return nil, err
		}
		_, kind, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, kind.Kind)
	}
}
