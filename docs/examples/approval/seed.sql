-- The company behind the validator: who works there, who may approve, what may still be spent.
-- Money is kept in cents; the wire and the workflow speak of decimal euros.

create table department (
    name text primary key,
    budget_cents integer not null check (budget_cents >= 0)
);

create table employee (
    login text primary key,
    name text not null,
    department text not null references department (name),
    may_approve integer not null default 0 check (may_approve in (0, 1))
);

-- One row for each purchase that was paid for. The key is the caller's Idempotency-Key: whatever
-- arrives under it a second time gets the stored receipt, and no money moves.
create table booking (
    number integer primary key,
    idempotency_key text not null unique,
    request blob not null,
    receipt blob not null
);

-- One row for each purchase that arrived in a request, refused ones and repeated ones too.
create table request (
    number integer primary key,
    kind text not null check (kind in ('validate', 'execute'))
);

insert into department (name, budget_cents) values
    ('Research', 600000),
    ('Field Service', 120000);

insert into employee (login, name, department, may_approve) values
    ('ghopper', 'Grace Hopper', 'Research', 1),
    ('kjohnson', 'Katherine Johnson', 'Research', 0),
    ('mhamilton', 'Margaret Hamilton', 'Field Service', 1),
    ('hlamarr', 'Hedy Lamarr', 'Field Service', 0);
