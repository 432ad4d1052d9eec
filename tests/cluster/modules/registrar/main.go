// registrar makes a DRA driver of a test known to the kubelet: it answers the plugin registration API on one socket and
// names the driver's own as its endpoint.
//
// It is no part of the driver itself, which is written in Rust, because the kubelet dials this socket with its path as the
// HTTP/2 authority, which is no valid one and is refused by the h2 crate.
package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type driver struct {
	registration.UnimplementedRegistrationServer
	name, endpoint string
}

func (driver driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.DRAPlugin,
		Name:              driver.name,
		Endpoint:          driver.endpoint,
		SupportedVersions: []string{"v1.DRAPlugin"},
	}, nil
}

func (driver) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		fmt.Fprintln(os.Stderr, "the kubelet does not take the driver:", status.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: registrar SOCKET DRIVER ENDPOINT")
		os.Exit(64)
	}
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, driver{name: os.Args[2], endpoint: os.Args[3]})
	if err := server.Serve(listener); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
