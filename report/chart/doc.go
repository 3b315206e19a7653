// Package chart draws the pictures of reports and of the built-in page: lines,
// distribution functions, stacked areas and bars, as SVG made in Go. gonum/plot
// lays them out (scales, ticks, clipping); a canvas of our own writes what it
// draws with classes instead of colours, so that one style sheet gives them
// their look, in the light and in the dark, on screen and on paper.
//
// A picture is the same for the same data: no clock, no randomness.
package chart
