// Package storage has no buckets: see ../README.md.
package storage

import (
	"context"
	"errors"
	"io"

	"google.golang.org/api/option"
)

var errWithout = errors.New("this agent is built without Google Cloud Storage")

type (
	Client         struct{}
	BucketHandle   struct{}
	ObjectHandle   struct{}
	ObjectIterator struct{}
	ObjectAttrs    struct{ Name string }
	Query          struct{ Prefix string }
	Reader         struct{ io.ReadCloser }
)

func NewClient(context.Context, ...option.ClientOption) (*Client, error) { return nil, errWithout }

func (*Client) Bucket(string) *BucketHandle { return nil }

func (*BucketHandle) Objects(context.Context, *Query) *ObjectIterator { return nil }

func (*BucketHandle) Object(string) *ObjectHandle { return nil }

func (h *ObjectHandle) Generation(int64) *ObjectHandle { return h }

func (*ObjectHandle) NewReader(context.Context) (*Reader, error) { return nil, errWithout }

func (*ObjectIterator) Next() (*ObjectAttrs, error) { return nil, errWithout }
