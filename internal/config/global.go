package config

// Global bounds the global store, of which every worker has a copy.
type Global struct {
	Limit Size `toml:"limit" default:"16MiB" min:"64KiB" doc:"What all of it may take, in the host and once more in every worker: the bytes of values and keys, and 32 for each. A write above it is refused."`
	Value Size `toml:"value" default:"1MiB" min:"1KiB" doc:"What one value may take, as JSON."`
}
