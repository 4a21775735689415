// Package web is the pages of the quotes: one that shows, one that corrects.
//
// No func here is told of events. What pages show is bound in [home.follow] and the Mount of the admin page,
// and changes by itself from there on.
package web
