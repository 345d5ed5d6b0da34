// Package option has no options: see ../../README.md.
package option

type ClientOption any

func WithTokenSource(any) ClientOption { return nil }
