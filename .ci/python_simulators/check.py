"""What the program wrote is what NumPy, ArviZ and corner.py read."""
import arviz, corner, matplotlib, numpy

matplotlib.use("Agg")

# The two lines of the README.
posterior = arviz.from_dict(posterior=dict(numpy.load("draws.npz")))
figure = corner.corner(posterior)

names = ["θ1", "θ2"]
assert list(posterior.posterior.data_vars) == names
assert dict(posterior.posterior.sizes) == {"chain": 1, "draw": 200}
assert len(figure.axes) == 4
print(arviz.summary(posterior))

many = arviz.from_dict(posterior=dict(numpy.load("many.npz")))
draws = numpy.load("many.npy")
assert draws.shape == (3, 200, 2) and draws.dtype == numpy.float64
csv = numpy.genfromtxt("many.csv", delimiter=",", names=True, encoding="utf8")
assert csv.shape == (600,)
for k, name in enumerate(names):
    values = many.posterior[name].values
    assert values.shape == (1, 200, 3)
    numpy.testing.assert_array_equal(values[0].T, draws[:, :, k])
table = numpy.genfromtxt("many.csv", delimiter=",", skip_header=1)
numpy.testing.assert_array_equal(table[:, 2:], draws.reshape(-1, 2))
numpy.testing.assert_array_equal(numpy.load("draws.npz")["θ2"][0], draws[0, :, 1])
assert numpy.load("single.npy").shape == (1, 200, 2)

lines, arrays = numpy.load("lines.npz"), numpy.load("arrays.npz")
numpy.testing.assert_array_equal(lines["theta"], arrays["theta"])
assert numpy.isnan(lines["x"][7]).all() and numpy.isfinite(arrays["x"]).all()
others = numpy.arange(500) != 7
numpy.testing.assert_array_equal(lines["x"][others], arrays["x"][others])
