// Passes over the edges of crystals, each a part of a layer whose equations are in crystalssl/encoders.
//
// Everything that is done with an edge is done at once, while its numbers are in registers or in the first cache. What is
// left to PyTorch are products with weights, which its library does at the speed of the processor.
//
// All arrays are float32 in rows without gaps, of `dim` (or `channels`) numbers, a multiple of 16. Edges are grouped by
// their centre: those of atom i are edge_ptr[i] ... edge_ptr[i + 1]. A call does the parts first ... last - 1 of the
// atoms, the part k being the atoms parts[k] ... parts[k + 1] - 1. No edge leads from one part to another, so that parts
// may be done at the same time, and results do not depend on how many are.

#include <cstdint>
#include <cstring>
#include <cmath>

namespace {

// Numbers in a register. Compilers accept wider vectors as well, but move them through memory.
#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

template <int N>
struct Numbers {
    typedef float type __attribute__((vector_size(4 * N)));
};

typedef Numbers<WIDTH>::type vec;
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));

inline vec load(const float* from) {
    vec x;
    std::memcpy(&x, from, sizeof x);  // from any address
    return x;
}

inline void store(float* to, vec x) { std::memcpy(to, &x, sizeof x); }

inline void add(float* to, vec x) { store(to, load(to) + x); }

template <int N>
inline float sum(typename Numbers<N>::type x) {
    if constexpr (N == 2) {
        return x[0] + x[1];
    } else {
        typename Numbers<N / 2>::type low, high;
        std::memcpy(&low, &x, sizeof low);
        std::memcpy(&high, reinterpret_cast<char*>(&x) + sizeof low, sizeof high);
        return sum<N / 2>(low + high);
    }
}

// exp to two units in the last place: 2^n times a polynomial on [-log(2)/2, log(2)/2], whose coefficients are those of
// Cephes. Beyond ±87 it stays what it is there; NaN stays NaN.
inline vec exp(vec x) {
    x = x < -87.0f ? vec{} - 87.0f : x;
    x = x > 87.0f ? vec{} + 87.0f : x;
    const float shift = 12582912.0f;  // adding 1.5 * 2^23 rounds, and leaves the integer in the last bits
    const vec shifted = x * 1.44269504f + shift;
    const vec n = shifted - shift;
    ivec bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000;
    vec power;
    std::memcpy(&power, &bits, sizeof power);
    const vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    return (y * r * r + r + 1.0f) * power;
}

inline vec sigmoid(vec x) { return 1.0f / (1.0f + exp(-x)); }

// log(1 + exp(x)) as the larger of x and 0 and log(1 + t) with t = exp(-|x|), which is 2 artanh(t / (2 + t)): a series in
// squares of at most 1/9.
inline vec softplus(vec x) {
    const vec t = exp(x > 0.0f ? -x : x);
    const vec r = t / (2.0f + t), square = r * r;
    vec y = square * (2.0f / 15) + 2.0f / 13;
    y = y * square + 2.0f / 11;
    y = y * square + 2.0f / 9;
    y = y * square + 2.0f / 7;
    y = y * square + 2.0f / 5;
    y = y * square + 2.0f / 3;
    y = y * square + 2.0f;
    return (x > 0.0f ? x : vec{}) + y * r;
}

// (x - mean) / deviation of a row, and 1 / deviation.
template <int N>
inline float normalize(const vec* x, vec* normal, float epsilon) {
    vec total = x[0];
    for (int d = 1; d < N; ++d) total += x[d];
    const float mean = sum<WIDTH>(total) / (N * WIDTH);
    vec squares = vec{};
    for (int d = 0; d < N; ++d) {
        normal[d] = x[d] - mean;
        squares += normal[d] * normal[d];
    }
    const float scale = 1.0f / std::sqrt(sum<WIDTH>(squares) / (N * WIDTH) + epsilon);
    for (int d = 0; d < N; ++d) normal[d] *= scale;
    return scale;
}

struct Graph {
    const int64_t *parts, *edge_ptr, *neighbors;
    int64_t first, last;
};

// m = m + a_i + b_j + more; h_i = Σ_j w_ij v_j / Σ_j w_ij with w = sigmoid(m) f; e' = e + silu(norm(m)).
// A row of `nodes` holds a, b, v and u of an atom.
template <int N>
void gate_forward(const Graph& graph, const float* nodes, const float* envelope, const float* more, const float* edges,
                  const float* norm_weight, const float* norm_bias, float norm_epsilon, float epsilon, float* logits,
                  float* new_edges, float* mean, float* total, float* own_and_mean) {
    constexpr int64_t dim = N * WIDTH;
    for (int64_t i = graph.parts[graph.first]; i < graph.parts[graph.last]; ++i) {
        const float* center = nodes + 4 * dim * i;
        vec sum_of_weights[N], weighted[N];
        for (int d = 0; d < N; ++d) sum_of_weights[d] = vec{} + epsilon, weighted[d] = vec{};
        for (int64_t k = graph.edge_ptr[i]; k < graph.edge_ptr[i + 1]; ++k) {
            const float* neighbor = nodes + 4 * dim * graph.neighbors[k] + dim;
            const float f = envelope ? envelope[k] : 1.0f;
            vec m[N];
            for (int d = 0; d < N; ++d) {
                const int64_t at = k * dim + d * WIDTH;
                m[d] = load(logits + at) + load(center + d * WIDTH) + load(neighbor + d * WIDTH);
                if (more) m[d] += load(more + at);
                store(logits + at, m[d]);
                const vec weight = sigmoid(m[d]) * f;
                sum_of_weights[d] += weight;
                weighted[d] += weight * load(neighbor + dim + d * WIDTH);
            }
            if (new_edges) {
                vec normal[N];
                normalize<N>(m, normal, norm_epsilon);
                for (int d = 0; d < N; ++d) {
                    const vec y = normal[d] * load(norm_weight + d * WIDTH) + load(norm_bias + d * WIDTH);
                    store(new_edges + k * dim + d * WIDTH, load(edges + k * dim + d * WIDTH) + y * sigmoid(y));
                }
            }
        }
        for (int d = 0; d < N; ++d) {
            const int64_t at = i * dim + d * WIDTH;
            const vec h = weighted[d] / sum_of_weights[d];
            store(total + at, sum_of_weights[d]);
            store(mean + at, h);
            store(own_and_mean + at, load(center + 3 * dim + d * WIDTH) + h);
        }
    }
}

// Gradients of the above by m and by the rows of `nodes`, which begin at zero; those by the weights of the norm are
// added up for each part apart, so that the order does not depend on the number of threads.
template <int N>
void gate_backward(const Graph& graph, const float* nodes, const float* envelope, const float* logits,
                   const float* norm_weight, const float* norm_bias, float norm_epsilon, const float* mean,
                   const float* total, const float* by_mean, const float* by_new_edges, float* by_logits,
                   float* by_nodes, float* by_norm) {
    constexpr int64_t dim = N * WIDTH;
    for (int64_t part = graph.first; part < graph.last; ++part) {
        vec by_weight[N], by_bias[N];
        for (int d = 0; d < N; ++d) by_weight[d] = by_bias[d] = vec{};
        for (int64_t i = graph.parts[part]; i < graph.parts[part + 1]; ++i) {
            vec by_center[N], outer[N];
            for (int d = 0; d < N; ++d) {
                by_center[d] = vec{};
                outer[d] = load(by_mean + i * dim + d * WIDTH) / load(total + i * dim + d * WIDTH);
            }
            for (int64_t k = graph.edge_ptr[i]; k < graph.edge_ptr[i + 1]; ++k) {
                const float* neighbor = nodes + 4 * dim * graph.neighbors[k] + dim;
                float* by_neighbor = by_nodes + 4 * dim * graph.neighbors[k] + dim;
                const float f = envelope ? envelope[k] : 1.0f;
                vec m[N], by_m[N];
                for (int d = 0; d < N; ++d) {
                    m[d] = load(logits + k * dim + d * WIDTH);
                    // Of Σ w v / Σ w: by w it is (v - h) / Σ w, by v it is w / Σ w; of w by its logit, w (1 - gate).
                    const vec gate = sigmoid(m[d]);
                    const vec by_value = outer[d] * gate * f;
                    add(by_neighbor + dim + d * WIDTH, by_value);
                    const vec value = load(neighbor + dim + d * WIDTH);
                    by_m[d] = (value - load(mean + i * dim + d * WIDTH)) * by_value * (1.0f - gate);
                }
                if (by_new_edges) {
                    vec normal[N], by_normal[N];
                    const float scale = normalize<N>(m, normal, norm_epsilon);
                    vec sums = vec{}, products = vec{};
                    for (int d = 0; d < N; ++d) {
                        const vec weight = load(norm_weight + d * WIDTH);
                        const vec y = normal[d] * weight + load(norm_bias + d * WIDTH);
                        const vec s = sigmoid(y);
                        const vec by_y = load(by_new_edges + k * dim + d * WIDTH) * s * (1.0f + y * (1.0f - s));
                        by_weight[d] += by_y * normal[d];
                        by_bias[d] += by_y;
                        by_normal[d] = by_y * weight;
                        sums += by_normal[d];
                        products += by_normal[d] * normal[d];
                    }
                    const float by_shift = sum<WIDTH>(sums) / dim, by_scale = sum<WIDTH>(products) / dim;
                    for (int d = 0; d < N; ++d)
                        by_m[d] += (by_normal[d] - by_shift - normal[d] * by_scale) * scale;
                }
                for (int d = 0; d < N; ++d) {
                    store(by_logits + k * dim + d * WIDTH, by_m[d]);
                    add(by_neighbor + d * WIDTH, by_m[d]);
                    by_center[d] += by_m[d];
                }
            }
            float* own = by_nodes + 4 * dim * i;
            for (int d = 0; d < N; ++d) {
                store(own + d * WIDTH, by_center[d]);
                store(own + 3 * dim + d * WIDTH, load(by_mean + i * dim + d * WIDTH));
            }
        }
        for (int d = 0; d < N; ++d) {
            store(by_norm + 2 * dim * part + d * WIDTH, by_weight[d]);
            store(by_norm + 2 * dim * part + dim + d * WIDTH, by_bias[d]);
        }
    }
}

// The harmonics of degree l stand at l² - 1 ... l² + 2 l - 1.
constexpr int64_t begin(int64_t degree) { return degree * degree - 1; }

constexpr int L_MAX = 8;

// A_i^lm = Σ_j w_ij M_ij^lm with M the mean of Y over the bonds that an edge stands for and w_ij = radial_ij source_j f_ij;
// s_ij^l = Σ_m A_i^lm Y_ij^lm; p_i^l = Σ_m (A_i^lm)².
void angles_forward(const Graph& graph, int64_t channels, int64_t l_max, const float* radial, const float* source,
                    const float* envelope, const float* harmonics, const float* means, float* moments, float* sums,
                    float* power) {
    const int64_t n_harmonics = begin(l_max + 1);
    for (int64_t i = graph.parts[graph.first]; i < graph.parts[graph.last]; ++i) {
        for (int64_t c = 0; c < channels; c += WIDTH) {
            vec a[begin(L_MAX + 1)];
            for (int64_t lm = 0; lm < n_harmonics; ++lm) a[lm] = vec{};
            for (int64_t k = graph.edge_ptr[i]; k < graph.edge_ptr[i + 1]; ++k) {
                const vec w = load(radial + k * channels + c) * load(source + graph.neighbors[k] * channels + c) *
                              envelope[k];
                for (int64_t lm = 0; lm < n_harmonics; ++lm) a[lm] += w * means[k * n_harmonics + lm];
            }
            for (int64_t lm = 0; lm < n_harmonics; ++lm) store(moments + (i * n_harmonics + lm) * channels + c, a[lm]);
            for (int64_t l = 1; l <= l_max; ++l) {
                vec p = vec{};
                for (int64_t lm = begin(l); lm < begin(l + 1); ++lm) p += a[lm] * a[lm];
                store(power + (i * l_max + l - 1) * channels + c, p);
            }
            for (int64_t k = graph.edge_ptr[i]; k < graph.edge_ptr[i + 1]; ++k)
                for (int64_t l = 1; l <= l_max; ++l) {
                    vec s = vec{};
                    for (int64_t lm = begin(l); lm < begin(l + 1); ++lm) s += a[lm] * harmonics[k * n_harmonics + lm];
                    store(sums + (k * l_max + l - 1) * channels + c, s);
                }
        }
    }
}

// Gradients of the above by `radial`, and by `source`, which begins at zero.
void angles_backward(const Graph& graph, int64_t channels, int64_t l_max, const float* radial, const float* source,
                     const float* envelope, const float* harmonics, const float* means, const float* moments,
                     const float* by_sums, const float* by_power, float* by_radial, float* by_source) {
    const int64_t n_harmonics = begin(l_max + 1);
    for (int64_t i = graph.parts[graph.first]; i < graph.parts[graph.last]; ++i) {
        for (int64_t c = 0; c < channels; c += WIDTH) {
            vec by_a[begin(L_MAX + 1)];
            for (int64_t l = 1; l <= l_max; ++l) {
                const vec twice = 2.0f * load(by_power + (i * l_max + l - 1) * channels + c);
                for (int64_t lm = begin(l); lm < begin(l + 1); ++lm)
                    by_a[lm] = twice * load(moments + (i * n_harmonics + lm) * channels + c);
            }
            for (int64_t k = graph.edge_ptr[i]; k < graph.edge_ptr[i + 1]; ++k)
                for (int64_t l = 1; l <= l_max; ++l) {
                    const vec by_s = load(by_sums + (k * l_max + l - 1) * channels + c);
                    for (int64_t lm = begin(l); lm < begin(l + 1); ++lm)
                        by_a[lm] += by_s * harmonics[k * n_harmonics + lm];
                }
            for (int64_t k = graph.edge_ptr[i]; k < graph.edge_ptr[i + 1]; ++k) {
                vec by_w = vec{};
                for (int64_t lm = 0; lm < n_harmonics; ++lm) by_w += by_a[lm] * means[k * n_harmonics + lm];
                by_w *= envelope[k];
                const int64_t j = graph.neighbors[k];
                store(by_radial + k * channels + c, by_w * load(source + j * channels + c));
                add(by_source + j * channels + c, by_w * load(radial + k * channels + c));
            }
        }
    }
}

// Pairs of an atom and a length, in the place of the edges of a graph: those of an atom follow each other, and
// `neighbors` are their lengths. z = softplus(a + b) in every head; scores are the products of z with the two vectors
// of its head in `attention`: first those of all heads with the first one, then with the second.
template <int N>
void pairs_forward(const Graph& pairs, int64_t n_heads, const float* of_atoms, const float* of_lengths,
                   const float* attention, float* z, float* scores) {
    constexpr int64_t dim = N * WIDTH;
    for (int64_t i = pairs.parts[pairs.first]; i < pairs.parts[pairs.last]; ++i)
        for (int64_t k = pairs.edge_ptr[i]; k < pairs.edge_ptr[i + 1]; ++k)
            for (int64_t h = 0; h < n_heads; ++h) {
                const float* a = of_atoms + (i * n_heads + h) * dim;
                const float* b = of_lengths + (pairs.neighbors[k] * n_heads + h) * dim;
                const float *first = attention + 2 * h * dim, *second = first + dim;
                vec products[2] = {vec{}, vec{}};
                for (int d = 0; d < N; ++d) {
                    const vec y = softplus(load(a + d * WIDTH) + load(b + d * WIDTH));
                    store(z + (k * n_heads + h) * dim + d * WIDTH, y);
                    products[0] += y * load(first + d * WIDTH);
                    products[1] += y * load(second + d * WIDTH);
                }
                scores[2 * k * n_heads + h] = sum<WIDTH>(products[0]);
                scores[(2 * k + 1) * n_heads + h] = sum<WIDTH>(products[1]);
            }
}

// Gradients of the above by a + b, by a, and by `attention`, which are added up for each part apart; the latter two
// begin at zero.
template <int N>
void pairs_backward(const Graph& pairs, int64_t n_heads, const float* attention, const float* z, const float* by_z,
                    const float* by_scores, float* by_sums, float* by_atoms, float* by_attention) {
    constexpr int64_t dim = N * WIDTH;
    for (int64_t part = pairs.first; part < pairs.last; ++part)
        for (int64_t i = pairs.parts[part]; i < pairs.parts[part + 1]; ++i)
            for (int64_t k = pairs.edge_ptr[i]; k < pairs.edge_ptr[i + 1]; ++k)
                for (int64_t h = 0; h < n_heads; ++h) {
                    const float *first = attention + 2 * h * dim, *second = first + dim;
                    const float by_first = by_scores[2 * k * n_heads + h];
                    const float by_second = by_scores[(2 * k + 1) * n_heads + h];
                    float* by_vectors = by_attention + 2 * (part * n_heads + h) * dim;
                    for (int d = 0; d < N; ++d) {
                        const int64_t at = (k * n_heads + h) * dim + d * WIDTH;
                        const vec y = load(z + at);
                        const vec by_y = load(by_z + at) + by_first * load(first + d * WIDTH) +
                                         by_second * load(second + d * WIDTH);
                        const vec by_sum = by_y * (1.0f - exp(-y));  // the derivative of softplus by its value
                        store(by_sums + at, by_sum);
                        add(by_atoms + (i * n_heads + h) * dim + d * WIDTH, by_sum);
                        add(by_vectors + d * WIDTH, y * by_first);
                        add(by_vectors + dim + d * WIDTH, y * by_second);
                    }
                }
}

// Σ_j Σ_h w_ijh z_jh; `neighbors` are the pairs of the neighbours.
template <int N>
void heads_forward(const Graph& graph, int64_t n_heads, const float* z, const float* weights, float* sums) {
    constexpr int64_t dim = N * WIDTH;
    for (int64_t i = graph.parts[graph.first]; i < graph.parts[graph.last]; ++i) {
        vec total[N];
        for (int d = 0; d < N; ++d) total[d] = vec{};
        for (int64_t k = graph.edge_ptr[i]; k < graph.edge_ptr[i + 1]; ++k)
            for (int64_t h = 0; h < n_heads; ++h) {
                const float* row = z + (graph.neighbors[k] * n_heads + h) * dim;
                const float weight = weights[k * n_heads + h];
                for (int d = 0; d < N; ++d) total[d] += weight * load(row + d * WIDTH);
            }
        for (int d = 0; d < N; ++d) store(sums + i * dim + d * WIDTH, total[d]);
    }
}

// Gradients of the above by z, which begins at zero, and by the weights.
template <int N>
void heads_backward(const Graph& graph, int64_t n_heads, const float* z, const float* weights, const float* by_sums,
                    float* by_z, float* by_weights) {
    constexpr int64_t dim = N * WIDTH;
    for (int64_t i = graph.parts[graph.first]; i < graph.parts[graph.last]; ++i) {
        vec by[N];
        for (int d = 0; d < N; ++d) by[d] = load(by_sums + i * dim + d * WIDTH);
        for (int64_t k = graph.edge_ptr[i]; k < graph.edge_ptr[i + 1]; ++k)
            for (int64_t h = 0; h < n_heads; ++h) {
                const int64_t at = (graph.neighbors[k] * n_heads + h) * dim;
                const float weight = weights[k * n_heads + h];
                vec product = vec{};
                for (int d = 0; d < N; ++d) {
                    product += by[d] * load(z + at + d * WIDTH);
                    add(by_z + at + d * WIDTH, weight * by[d]);
                }
                by_weights[k * n_heads + h] = sum<WIDTH>(product);
            }
    }
}

inline float total_weight(const float* weights, int64_t begin, int64_t end) {
    float total = weights ? 0 : end - begin;
    for (int64_t row = begin; weights && row < end; ++row) total += weights[row];
    return std::fmax(total, 1e-30f);
}

// Mean, maximum and minimum, or the first `n_statistics` of them, of the rows ptr[k] ... ptr[k + 1] - 1 of x, which take
// the places of an atom's edges. The logarithms of weights are added before a maximum is taken and subtracted before a
// minimum is. A NaN is in the mean in any case.
void pool_forward(const Graph& rows, int64_t dim, int64_t n_statistics, const float* x, const float* weights,
                  const float* log_weights, float* pooled) {
    for (int64_t k = rows.parts[rows.first]; k < rows.parts[rows.last]; ++k) {
        const int64_t begin = rows.edge_ptr[k], end = rows.edge_ptr[k + 1];
        const float total = total_weight(weights, begin, end);
        for (int64_t d = 0; d < dim; d += WIDTH) {
            vec mean = vec{}, largest = vec{} - INFINITY, smallest = vec{} + INFINITY;
            for (int64_t row = begin; row < end; ++row) {
                const vec value = load(x + row * dim + d);
                const float log_weight = log_weights ? log_weights[row] : 0.0f;
                mean += weights ? value * weights[row] : value;
                largest = value + log_weight > largest ? value + log_weight : largest;
                smallest = value - log_weight < smallest ? value - log_weight : smallest;
            }
            float* to = pooled + k * n_statistics * dim + d;
            store(to, mean / total);
            if (n_statistics > 1) store(to + dim, begin < end ? largest : vec{});
            if (n_statistics > 2) store(to + 2 * dim, begin < end ? smallest : vec{});
        }
    }
}

// Gradient of the above by x; rows that share a maximum or a minimum share its gradient.
void pool_backward(const Graph& rows, int64_t dim, int64_t n_statistics, const float* x, const float* weights,
                   const float* log_weights, const float* pooled, const float* by_pooled, float* by_x) {
    for (int64_t k = rows.parts[rows.first]; k < rows.parts[rows.last]; ++k) {
        const int64_t begin = rows.edge_ptr[k], end = rows.edge_ptr[k + 1];
        const float total = total_weight(weights, begin, end);
        for (int64_t d = 0; d < dim; d += WIDTH) {
            const float* of = pooled + k * n_statistics * dim + d;
            const float* by = by_pooled + k * n_statistics * dim + d;
            const vec by_mean = load(by) / total;
            vec extremes[2] = {vec{}, vec{}}, shares[2] = {vec{}, vec{}};
            for (int64_t e = 0; e + 1 < n_statistics; ++e) {
                extremes[e] = load(of + (e + 1) * dim);
                vec n_equal = vec{};
                for (int64_t row = begin; row < end; ++row) {
                    const float log_weight = log_weights ? log_weights[row] : 0.0f;
                    const vec value = load(x + row * dim + d) + (e ? -log_weight : log_weight);
                    n_equal += value == extremes[e] ? vec{} + 1.0f : vec{};
                }
                shares[e] = load(by + (e + 1) * dim) / n_equal;
            }
            for (int64_t row = begin; row < end; ++row) {
                const vec value = load(x + row * dim + d);
                const float log_weight = log_weights ? log_weights[row] : 0.0f;
                vec by_value = weights ? by_mean * weights[row] : by_mean;
                if (n_statistics > 1) by_value += value + log_weight == extremes[0] ? shares[0] : vec{};
                if (n_statistics > 2) by_value += value - log_weight == extremes[1] ? shares[1] : vec{};
                store(by_x + row * dim + d, by_value);
            }
        }
    }
}

}  // namespace

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// `n` is dim / 16, one of 2, 4, 8 and 16.
#define BY_WIDTH(function, ...)                             \
    switch (n) {                                            \
        case 2: return function<32 / WIDTH>(__VA_ARGS__);   \
        case 4: return function<64 / WIDTH>(__VA_ARGS__);   \
        case 8: return function<128 / WIDTH>(__VA_ARGS__);  \
        case 16: return function<256 / WIDTH>(__VA_ARGS__); \
    }

EXPORT void crystalssl_gate_forward(const Graph* graph, int64_t n, const float* nodes, const float* envelope,
                                    const float* more, const float* edges, const float* norm_weight,
                                    const float* norm_bias, float norm_epsilon, float epsilon, float* logits,
                                    float* new_edges, float* mean, float* total, float* own_and_mean) {
    BY_WIDTH(gate_forward, *graph, nodes, envelope, more, edges, norm_weight, norm_bias, norm_epsilon, epsilon, logits,
             new_edges, mean, total, own_and_mean)
}

EXPORT void crystalssl_gate_backward(const Graph* graph, int64_t n, const float* nodes, const float* envelope,
                                     const float* logits, const float* norm_weight, const float* norm_bias,
                                     float norm_epsilon, const float* mean, const float* total, const float* by_mean,
                                     const float* by_new_edges, float* by_logits, float* by_nodes, float* by_norm) {
    BY_WIDTH(gate_backward, *graph, nodes, envelope, logits, norm_weight, norm_bias, norm_epsilon, mean, total, by_mean,
             by_new_edges, by_logits, by_nodes, by_norm)
}

EXPORT void crystalssl_angles_forward(const Graph* graph, int64_t channels, int64_t l_max, const float* radial,
                                      const float* source, const float* envelope, const float* harmonics,
                                      const float* means, float* moments, float* sums, float* power) {
    angles_forward(*graph, channels, l_max, radial, source, envelope, harmonics, means, moments, sums, power);
}

EXPORT void crystalssl_angles_backward(const Graph* graph, int64_t channels, int64_t l_max, const float* radial,
                                       const float* source, const float* envelope, const float* harmonics,
                                       const float* means, const float* moments, const float* by_sums,
                                       const float* by_power, float* by_radial, float* by_source) {
    angles_backward(*graph, channels, l_max, radial, source, envelope, harmonics, means, moments, by_sums, by_power,
                    by_radial, by_source);
}

EXPORT void crystalssl_pairs_forward(const Graph* pairs, int64_t n, int64_t n_heads, const float* of_atoms,
                                     const float* of_lengths, const float* attention, float* z, float* scores) {
    BY_WIDTH(pairs_forward, *pairs, n_heads, of_atoms, of_lengths, attention, z, scores)
}

EXPORT void crystalssl_pairs_backward(const Graph* pairs, int64_t n, int64_t n_heads, const float* attention,
                                      const float* z, const float* by_z, const float* by_scores, float* by_sums,
                                      float* by_atoms, float* by_attention) {
    BY_WIDTH(pairs_backward, *pairs, n_heads, attention, z, by_z, by_scores, by_sums, by_atoms, by_attention)
}

EXPORT void crystalssl_heads_forward(const Graph* graph, int64_t n, int64_t n_heads, const float* z,
                                     const float* weights, float* sums) {
    BY_WIDTH(heads_forward, *graph, n_heads, z, weights, sums)
}

EXPORT void crystalssl_heads_backward(const Graph* graph, int64_t n, int64_t n_heads, const float* z,
                                      const float* weights, const float* by_sums, float* by_z, float* by_weights) {
    BY_WIDTH(heads_backward, *graph, n_heads, z, weights, by_sums, by_z, by_weights)
}

EXPORT void crystalssl_pool_forward(const Graph* rows, int64_t dim, int64_t n_statistics, const float* x,
                                    const float* weights, const float* log_weights, float* pooled) {
    pool_forward(*rows, dim, n_statistics, x, weights, log_weights, pooled);
}

EXPORT void crystalssl_pool_backward(const Graph* rows, int64_t dim, int64_t n_statistics, const float* x,
                                     const float* weights, const float* log_weights, const float* pooled,
                                     const float* by_pooled, float* by_x) {
    pool_backward(*rows, dim, n_statistics, x, weights, log_weights, pooled, by_pooled, by_x);
}
