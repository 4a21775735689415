package sqlitestore

type modelFile struct{}
