-- Why connections of buyers were refused: for the buyers to look at. One row a buyer, code and hour, so at most some twenty
-- a buyer and hour; the job `cleanup` deletes those of more than a week ago.
CREATE TABLE buyer_refusals (
  buyer_id     uuid NOT NULL REFERENCES buyers (id),
  hour         timestamptz NOT NULL,                 -- its beginning
  code         text NOT NULL CHECK (code ~ '^[A-Z_]{1,40}$'),
  refusals     bigint NOT NULL CHECK (refusals > 0),
  last_at      timestamptz NOT NULL,
  last_detail  text,                                 -- of the latest: the key of BAD_PARAM, say
  PRIMARY KEY (buyer_id, hour, code)
);
CREATE INDEX buyer_refusals_hour ON buyer_refusals (hour);
