module github.com/guado-server/guado

go 1.26
