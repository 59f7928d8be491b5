import type { ComponentType } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { exec, useLocation } from 'preact-iso/router';
import { asApiError } from '../api/problem.js';
import { Failure, Loading } from '../parts/states.js';
import { Guard } from './guard.js';
import type { PageProps, Room, RoomPage } from './room.js';

/** The page of the room that the address names. After navigation its title gets the focus. */
export function Outlet({ room }: { room: Room }) {
  const { path } = useLocation();
  const first = useRef(path);
  const found = find(room, path);
  const title = found?.page.title ?? 'Not found';
  useEffect(() => {
    document.title = `${title} · Traffic Share`;
    if (first.current === path) return;
    first.current = '';
    focusHeading();
  }, [path, title]);
  if (found === undefined) return <NotFound home={room.home} />;
  return (
    <Guard resetBy={path}>
      <Page key={path} page={found.page} params={found.params} />
    </Guard>
  );
}

function find(room: Room, path: string): { page: RoomPage; params: Record<string, string> } | undefined {
  for (const page of room.pages) {
    const match = exec(path, page.path, { path, query: {}, params: {} });
    if (match) return { page, params: match.params };
  }
  return undefined;
}

/** To the page's title as soon as it is there: a page that is loaded first has none yet. */
function focusHeading(): void {
  const main = document.querySelector('main');
  if (main === null) return;
  const heading = main.querySelector<HTMLElement>('h1');
  if (heading !== null) {
    heading.focus({ preventScroll: true });
    return;
  }
  const watch = new MutationObserver(() => {
    const late = main.querySelector<HTMLElement>('h1');
    if (late === null) return;
    watch.disconnect();
    late.focus({ preventScroll: true });
  });
  watch.observe(main, { childList: true, subtree: true });
  setTimeout(() => watch.disconnect(), 5_000);
}

const loaded = new Map<RoomPage, ComponentType<PageProps>>();

function Page({ page, params }: { page: RoomPage; params: Record<string, string> }) {
  const [, setTurn] = useState(0);
  const [failed, setFailed] = useState<unknown>();
  const Shown = page.lazy === true ? loaded.get(page) : (page.page as ComponentType<PageProps>);
  const load = () => {
    setFailed(undefined);
    (page.page as () => Promise<{ default: ComponentType<PageProps> }>)().then(
      (module) => {
        loaded.set(page, module.default);
        setTurn((n) => n + 1);
      },
      // Its file is gone after an upgrade, or the network is.
      setFailed,
    );
  };
  useEffect(() => {
    if (Shown === undefined) load();
  }, []);
  if (Shown !== undefined) return <Shown params={params} />;
  if (failed !== undefined) return <Failure error={asApiError(failed)} retry={() => location.reload()} />;
  return <Loading lines={6} />;
}

export function NotFound({ home }: { home: string }) {
  return (
    <div class="empty">
      <h1 tabIndex={-1}>Nothing here</h1>
      <p class="quiet">The address may be misspelt, or what it named is gone.</p>
      <a class="button button-main" href={home}>
        To the first page
      </a>
    </div>
  );
}
