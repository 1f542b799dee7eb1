package compare

import "slices"

// holm adjusts p-values for their number (S. Holm, A simple sequentially
// rejective multiple test procedure, 1979): the i-th smallest of m is
// multiplied by m-i+1, and none may come out below a smaller one. Whatever the
// comparisons have to do with each other, the chance of one false alarm among
// all is at most the level that the result is held against.
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case p[i] < p[j]:
			return -1
		case p[i] > p[j]:
			return 1
		}
		return 0
	})
	adjusted, least := make([]float64, len(p)), 0.0
	for rank, i := range order {
		least = max(least, min(1, p[i]*float64(len(p)-rank)))
		adjusted[i] = least
	}
	return adjusted
}
