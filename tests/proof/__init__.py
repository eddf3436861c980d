"""The proof: real processes are killed, stopped and cheated while runs move, and every effect is counted elsewhere."""
