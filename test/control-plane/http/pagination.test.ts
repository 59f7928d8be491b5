import t from 'tap';
import { pageOfAll } from '../../../control-plane/http/pagination.js';

t.test('a short list is told in pages', async (t) => {
  const all = ['a', 'b', 'c', 'd', 'e'];
  const pages: string[][] = [];
  let cursor: string | undefined;
  do {
    const page = pageOfAll(all, { limit: 2, cursor });
    pages.push(page.items);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
  t.same(pages, [['a', 'b'], ['c', 'd'], ['e']]);
  t.same(pageOfAll(all, { limit: 5 }), { items: all, next_cursor: null });
  t.same(pageOfAll([], { limit: 5 }), { items: [], next_cursor: null });
  t.throws(() => pageOfAll(all, { limit: 2, cursor: 'nonsense' }), { code: 'validation_failed' });
  const beyond = Buffer.from('["999999999"]').toString('base64url');
  t.same(pageOfAll(all, { limit: 2, cursor: beyond }), { items: [], next_cursor: null });
});
