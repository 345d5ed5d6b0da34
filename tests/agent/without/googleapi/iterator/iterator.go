// Package iterator iterates over nothing: see ../../README.md.
package iterator

import "errors"

var Done = errors.New("no more items in iterator")
