from fcc.passes.fold_batchnorm import FoldBatchNorm
from fcc.testing import check
def test_a():
    check(FoldBatchNorm(),
     before="g (float[N,4,8,8] x) => (float[N,6,8,8] y) <float[6,2,3,3] w, float[6] b, float[6] s, float[6] t, float[6] m, float[6] var> { a = Conv<group=2,pads=[1,1,1,1]>(x,w,b) y = BatchNormalization<epsilon=0.1>(a,s,t,m,var) }",
     after="g (float[N,4,8,8] x) => (float[N,6,8,8] y) { y = Conv<group=2,pads=[1,1,1,1]>(x,w,b) }")
