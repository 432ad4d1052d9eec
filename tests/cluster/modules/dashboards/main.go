// Command dashboards checks Grafana dashboards with the types of Grafana's own SDK: fields that they do not have, values of the wrong type,
// options of a panel that its plugin does not know, and units that Grafana does not know.
//
// Usage: dashboards FILE...
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// The units that the dashboards may use, by their names in the SDK, so that each is one of Grafana's.
var known = map[string]bool{
	units.NoUnit:           true,
	units.SiShort:          true,
	units.PercentUnit:      true,
	units.BytesIEC:         true,
	units.BytesPerSecondSI: true,
	units.CountsPerSecond:  true,
	units.Watt:             true,
	units.WattHour:         true,
	units.Joule:            true,
	units.Celsius:          true,
	units.Hertz:            true,
	units.Seconds:          true,
	units.BoolYesNo:        true,
}

func main() {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(table.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	failed := len(os.Args) < 2
	if failed {
		fmt.Fprintln(os.Stderr, "usage: dashboards FILE...")
	}
	for _, file := range os.Args[1:] {
		for _, problem := range check(file) {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, problem)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// check returns what is wrong with a dashboard.
func check(file string) []error {
	text, err := os.ReadFile(file)
	if err != nil {
		return []error{err}
	}
	var parsed dashboard.Dashboard
	// Without problems it is an empty list, which is not nil.
	if err := parsed.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		return []error{err}
	}
	var problems []error
	if err := parsed.Validate(); err != nil {
		problems = append(problems, err)
	}
	var any any
	if err := json.Unmarshal(text, &any); err != nil {
		return append(problems, err)
	}
	for _, unit := range unitsOf(any) {
		if !known[unit] {
			problems = append(problems, fmt.Errorf("unknown unit %q", unit))
		}
	}
	return problems
}

// unitsOf returns the units of all fields and overrides.
func unitsOf(value any) []string {
	var found []string
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			found = append(found, unitsOf(item)...)
		}
	case map[string]any:
		if unit, ok := value["unit"].(string); ok {
			found = append(found, unit)
		}
		if unit, ok := value["value"].(string); ok && value["id"] == "unit" {
			found = append(found, unit)
		}
		for _, item := range value {
			found = append(found, unitsOf(item)...)
		}
	}
	return found
}
