//go:build tools

// Package tools pins the Nomad agent that the demo and the tests build.
package tools

import _ "github.com/hashicorp/nomad"
