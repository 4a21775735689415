// Package person is who talks in the chat: somebody with a browser. There are no accounts.
//
// A person's id follows from a secret that the browser keeps, and the first name follows from the
// id. What a person decides is kept as events: another name, and up to where each room was read.
package person
