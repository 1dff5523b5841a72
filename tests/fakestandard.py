from benchmark.data.fake.standard import *
