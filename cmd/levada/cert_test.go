package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/stretchr/testify/require"
)

// certificate writes a certificate, its key and its authority to files.
func certificate(t *testing.T) (cert, key, authority string) {
	t.Helper()
	config, ca, err := esdbdev.SelfSigned("127.0.0.1")
	require.NoError(t, err)
	own := config.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, data, 0o600))
		return filepath.ToSlash(file)
	}
	return write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})),
		write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), write("ca.pem", ca)
}
