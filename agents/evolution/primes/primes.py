def primes(below):
    """The prime numbers below a bound, in order."""
    found = []
    for n in range(2, below):
        divisors = 0
        for d in range(1, n + 1):
            if n % d == 0:
                divisors += 1
        if divisors == 2:
            found.append(n)
    return found
