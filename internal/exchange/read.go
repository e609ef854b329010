package exchange

import (
	"errors"
	"io"
)

// ReadBody reads a request's body that may have so many bytes, or says how the request is
// refused.
func ReadBody(x *Exchange, most int) ([]byte, *Problem) {
	tooLarge := &Problem{Status: 413, Code: "body_too_large", Err: ErrBodyTooLarge}
	if x.Length > int64(most) {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(x.Body, int64(most)+1))
	switch {
	case len(body) > most, errors.Is(err, ErrBodyTooLarge):
		return nil, tooLarge
	case errors.Is(err, ErrSlowClient):
		return nil, &Problem{Status: 408, Code: "slow_client", Err: err}
	case err != nil:
		return nil, &Problem{Status: 400, Code: "malformed_body", Err: err}
	}
	return body, nil
}
