// Loaded into a control plane by the fuzzer's own test (`node --import`): breaks it as SQL put together from texts would.
// A value with a quote in it is a statement that Postgres can not read.
import pg from 'pg';

const realQuery = pg.Client.prototype.query;
const hasQuote = (value) => typeof value === 'string' && value.includes("'");

pg.Client.prototype.query = function query(statement, values, ...rest) {
  if (Array.isArray(values) && values.some(hasQuote)) return realQuery.call(this, "SELECT '", [], ...rest);
  return realQuery.call(this, statement, values, ...rest);
};
