"""How one input is found: pure functions of one clip. The network is an argument; none is imported.

The equations, by the numbers that the code cites (Feichtenhofer et al., CVPR 2018, after Mahendran & Vedaldi, 2016):

    x* = argmax_x  w a(x) - sum_r lambda_r R_r(x),    w = objective_weight / (rho^2 ahat)                            (1)

    N_B(x) = 1/(H W) sum_ijk (sum_d x(i,j,k,d)^2)^(alpha/2)  if sqrt(sum_d x(i,j,k,d)^2) <= B everywhere,
             infinite else                                                                                        (2)

    R_TV(x) = 1/(H W) sum_ijkd  (D_x x)^2 + (D_y x)^2 + chi (D_t x)^2                                              (3)

a(x) is the objective: a unit's activation a_l(x)_c at the centre of the map of layer l, before its ReLU; rho the side
of its receptive field in pixels, ahat its largest activation over real data. The penalties R_r and their weights are
N_B with lambda = 80^-alpha and R_TV with lambda = kappa. i, j run over rows and columns, k over frames or flow fields,
d over rgb or uv; H W is the area of the canvas. D are differences to the next place, 0 at the last; D_t runs along the
axis that an input declares as slow. x is in grey levels.

Classes of a network whose moments are known (Yin et al., CVPR 2020) have their log-odds less weight N(x) for a(x), N
what departs from natural activity, see `naturalness`; and the log-odds that are enough for ahat.
"""
