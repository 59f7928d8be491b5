// Loaded into a control plane by the fuzzer's own test (`node --import`): breaks it as an unchecked value would. Long
// texts are an exception to whoever tries a pattern on them.
const LENGTH_MAX = 4_000;
const realTest = RegExp.prototype.test;

RegExp.prototype.test = function test(text) {
  if (typeof text === 'string' && text.length > LENGTH_MAX) throw new RangeError('too long a text');
  return realTest.call(this, text);
};
