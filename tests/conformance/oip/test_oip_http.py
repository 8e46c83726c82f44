def test_x(server):
    assert server.get("/v2/health/live").status == 200
