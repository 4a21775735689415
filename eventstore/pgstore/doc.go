// Package pgstore keeps events in PostgreSQL.
package pgstore
