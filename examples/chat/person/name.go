package person

import (
	"crypto/sha256"
	"strings"
)

// FirstName returns the name that a person has who has chosen none: an adjective and a noun.
func FirstName(id string) string {
	sum := sha256.Sum256([]byte("chat name\n" + id))
	return adjectives[int(sum[0])%len(adjectives)] + "-" + nouns[int(sum[1])%len(nouns)]
}

// Both lists are 64 long, so that all names are equally likely.
var (
	adjectives = strings.Fields(`
		amber ancient autumn azure bold brave breezy bright calm cheerful clear clever
		copper coral cosmic crisp curious dapper dawn eager early fabled fair gentle
		gilded glad golden happy hidden honest indigo jolly keen kind lively lucky
		lunar mellow merry mighty misty modest nimble noble patient placid polished proud
		quick quiet restless rosy rustic scarlet serene shy silent silver solar spry
		steady sunny swift wandering`)
	nouns = strings.Fields(`
		acorn badger beacon birch bison breeze brook canyon cedar cloud comet condor
		coyote crane creek dolphin dune eagle ember falcon fern finch fjord forest
		fox glacier grove harbor hawk heron island jaguar juniper kestrel lagoon lake
		lantern lark lynx maple marmot meadow meteor moon moth mountain oak orchid
		osprey otter owl panda pebble pine puffin raven reef river sparrow star
		summit thicket tiger walrus`)
)
