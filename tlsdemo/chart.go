package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"maclef/internal/cli"
)

// A chart shows the times of signatures as bars. Its unit is that of the SVG.
type chart struct {
	Bars  []bar
	Lines []line // at round times, from bottom to top

	MedianY  float64 // if there are bars
	From, To int     // numbers of the first and last signature
	End      float64 // where the last bar ends
	OwnShown bool    // one of the bars is this connection's
	Desc     string
}

type bar struct {
	X, Y, Width, Height float64
	Title               string
	Own                 bool // of the connection that shows the page
	Over                bool // higher than the chart
}

type line struct {
	Y     float64
	Label string
}

// The area of the bars. The template contains these numbers, too.
const (
	plotLeft, plotRight = 64.0, 712.0
	plotTop, plotBottom = 16.0, 196.0
)

func newChart(rep *report) *chart {
	samples := rep.samples
	c := &chart{Desc: "No signature yet."}
	if len(samples) == 0 {
		return c
	}
	// One signature that waited for long must not make all other bars flat.
	top, step := scale(inMS(min(rep.Spread.Slowest, 5*rep.Spread.Median)))
	y := func(ms float64) float64 { return round(plotBottom - min(ms/top, 1)*(plotBottom-plotTop)) }
	for i := 0; float64(i)*step <= top*1.001; i++ {
		ms := float64(i) * step
		c.Lines = append(c.Lines, line{y(ms), strconv.FormatFloat(round(ms), 'f', -1, 64) + " ms"})
	}
	slot := (plotRight - plotLeft) / float64(max(len(samples), 25))
	for i, s := range samples {
		at := y(inMS(s.took))
		c.Bars = append(c.Bars, bar{
			X: round(plotLeft + slot*(float64(i)+0.14)), Y: at,
			Width: round(slot * 0.72), Height: round(plotBottom - at),
			Title: fmt.Sprintf("signature %d: %s", s.number, milliseconds(s.took)),
			Own:   s.number == rep.Connection.Number,
			Over:  inMS(s.took) > top,
		})
	}
	c.End = round(plotLeft + slot*float64(len(samples)))
	c.OwnShown = slices.ContainsFunc(c.Bars, func(b bar) bool { return b.Own })
	c.MedianY = y(inMS(rep.Spread.Median))
	c.From, c.To = samples[0].number, samples[len(samples)-1].number
	c.Desc = fmt.Sprintf("Bars for the last %s: median %s, fastest %s, slowest %s.", cli.Counted(len(samples), "signature"),
		milliseconds(rep.Spread.Median), milliseconds(rep.Spread.Fastest), milliseconds(rep.Spread.Slowest))
	return c
}

// scale returns the top of an axis for values up to highest, and the distance between its
// lines: 1, 2 or 5 times a power of ten, so that there are at most four.
func scale(highest float64) (top, step float64) {
	highest = max(highest, 0.001)
	for power := math.Pow(10, math.Floor(math.Log10(highest))-1); ; power *= 10 {
		for _, factor := range []float64{1, 2, 5} {
			step = power * factor
			if lines := math.Ceil(highest / step); lines <= 4 {
				return lines * step, step
			}
		}
	}
}

func round(v float64) float64 { return math.Round(v*1000) / 1000 }
