// Package s3 has no buckets: see ../README.md.
package s3

import (
	"context"
	"errors"
	"io"
)

var errWithout = errors.New("this agent is built without S3")

type (
	Client  struct{}
	Options struct {
		UsePathStyle bool
		BaseEndpoint *string
	}
	GetObjectInput  struct{ Bucket, Key, VersionId *string }
	GetObjectOutput struct {
		Body          io.ReadCloser
		ContentLength *int64
	}
	Object                 struct{ Key *string }
	ListObjectsV2Input     struct{ Bucket, Prefix *string }
	ListObjectsV2Output    struct{ Contents []Object }
	ListObjectsV2Paginator struct{}
)

func NewFromConfig(any, ...func(*Options)) *Client { return nil }

func (*Client) GetObject(context.Context, *GetObjectInput) (*GetObjectOutput, error) {
	return nil, errWithout
}

func NewListObjectsV2Paginator(*Client, *ListObjectsV2Input) *ListObjectsV2Paginator { return nil }

func (*ListObjectsV2Paginator) HasMorePages() bool { return true }

func (*ListObjectsV2Paginator) NextPage(context.Context) (*ListObjectsV2Output, error) {
	return nil, errWithout
}
