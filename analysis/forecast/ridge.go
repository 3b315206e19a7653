package forecast

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// ridge is a linear regression with forgetting. It keeps the normal equations,
// so that a row costs what it has to and old rows need not be kept.
type ridge struct {
	dim    int
	gram   []float64 // upper triangle in rows of dim
	cross  []float64
	weight float64 // of the next row; grows, so that older rows fade
	growth float64
	rows   int
	beta   []float64 // nil: not fitted
}

// penalty is relative to each column's own square sum, so that the columns'
// units do not matter.
const penalty = 1e-3

// newRidge has rows lose half their weight in halfLife rows.
func newRidge(dim int, halfLife float64) *ridge {
	return &ridge{dim: dim, gram: make([]float64, dim*dim), cross: make([]float64, dim), weight: 1, growth: math.Exp2(1 / halfLife)}
}

func (r *ridge) add(x []float64, y float64) {
	for i, xi := range x {
		wx := r.weight * xi
		row := r.gram[i*r.dim : (i+1)*r.dim]
		for j := i; j < len(x); j++ {
			row[j] += wx * x[j]
		}
		r.cross[i] += wx * y
	}
	r.weight *= r.growth
	r.rows++
	if r.weight > 1e9 {
		r.rescale()
	}
}

func (r *ridge) rescale() {
	for i := range r.gram {
		r.gram[i] /= r.weight
	}
	for i := range r.cross {
		r.cross[i] /= r.weight
	}
	r.weight = 1
}

// fit solves for the coefficients, once there are some rows for each. The first
// column is the constant and is not penalised.
func (r *ridge) fit() {
	if r.rows < 10*r.dim {
		return
	}
	a := mat.NewSymDense(r.dim, nil)
	for i := range r.dim {
		for j := i; j < r.dim; j++ {
			a.SetSym(i, j, r.gram[i*r.dim+j])
		}
		if i > 0 {
			d := r.gram[i*r.dim+i]
			a.SetSym(i, i, d*(1+penalty)+1e-12*r.gram[0]) // a column of zeros is no matter
		}
	}
	var factor mat.Cholesky
	var beta mat.VecDense
	if !factor.Factorize(a) || factor.SolveVecTo(&beta, mat.NewVecDense(r.dim, r.cross)) != nil {
		return // nearly singular: the older coefficients stay
	}
	for i := range r.dim {
		if b := beta.AtVec(i); math.IsNaN(b) || math.IsInf(b, 0) {
			return
		}
	}
	r.beta = beta.RawVector().Data
}

// predict returns NaN as long as there is no fit.
func (r *ridge) predict(x []float64) float64 {
	if r.beta == nil {
		return math.NaN()
	}
	sum := 0.0
	for i, b := range r.beta {
		sum += b * x[i]
	}
	return sum
}
