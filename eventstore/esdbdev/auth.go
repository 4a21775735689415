package esdbdev

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// admit checks who makes a call. What clients ask to find their way is open to all.
func (s *Server) admit(ctx context.Context, method string) error {
	if s.opt.User == "" || method == gossip.Gossip_Read_FullMethodName || method == serverfeatures.ServerFeatures_GetSupportedMethods_FullMethodName {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	header := md.Get("authorization")
	if len(header) == 0 {
		return accessDenied()
	}
	user, password, ok := basicAuth(header[0])
	if !ok || !same(user, s.opt.User) || !same(password, s.opt.Password) {
		return &exception{code: codes.Unauthenticated, message: "Unauthenticated"}
	}
	return nil
}

// basicAuth parses an Authorization header (RFC 7617).
func basicAuth(header string) (user, password string, ok bool) {
	scheme, encoded, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(text), ":")
}

// same compares in a time that tells nothing of where two strings differ.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// selfSignedFor is how long a certificate of SelfSigned is valid.
const selfSignedFor = 365 * 24 * time.Hour

// SelfSigned returns a new TLS configuration for hosts, names or addresses, that is
// valid for a year, and the certificate, in PEM, of the authority that was made for it
// and that clients must trust: their parameter tlsCaFile names a file with it.
func SelfSigned(hosts ...string) (config *tls.Config, authority []byte, err error) {
	now := time.Now()
	// Not every client takes one certificate for both.
	ca := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "levada development authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedFor),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "levada development server"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	caKey, caDER, err := sign(ca, nil, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("esdbdev: self-signed certificate: %w", err)
	}
	key, der, err := sign(leaf, ca, caKey)
	if err != nil {
		return nil, nil, fmt.Errorf("esdbdev: self-signed certificate: %w", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS12,
	}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}

// sign makes a key for a certificate and signs that, with itself if there is no parent.
func sign(c, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	return key, der, err
}
