import { useEffect, useState } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { miniAppInitData } from '../session/mini-app.js';
import { signOut } from '../session/sign-out.js';
import { Brand, Icon } from './icons.js';
import { Outlet } from './outlet.js';
import { RoleProvider } from './role.js';
import type { NavigationItem, Room } from './room.js';
import { ThemeChoice } from './theme-choice.js';

/** The frame of a role's pages: menu at the side or, on a phone, at the bottom; the page. */
export function Layout({ room }: { room: Room }) {
  const { path } = useLocation();
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [path]);
  useEffect(() => {
    if (!open) return;
    const close = (event: KeyboardEvent) => event.key === 'Escape' && setOpen(false);
    document.addEventListener('keydown', close);
    return () => document.removeEventListener('keydown', close);
  }, [open]);
  const current = (item: NavigationItem) =>
    item.path === path || (item.path !== room.home && path.startsWith(`${item.path}/`));
  const main = room.navigation.filter((item) => item.main === true).slice(0, 4);
  return (
    <RoleProvider value={room.role}>
      <a class="skip" href="#main">
        To the content
      </a>
      <div class="frame">
        <div class={`side ${open ? 'side-open' : ''}`} id="menu">
          <div class="side-head">
            <Brand />
            <span class="role-name">{room.name}</span>
          </div>
          <nav aria-label="Pages">
            <ul class="menu">
              {room.navigation.map((item) => (
                <li key={item.path}>
                  {item.group !== undefined && <p class="menu-group">{item.group}</p>}
                  <MenuLink item={item} current={current(item)} />
                </li>
              ))}
            </ul>
          </nav>
          <div class="side-foot">
            <ThemeChoice />
            {miniAppInitData() === null && (
              <button type="button" class="menu-link" onClick={() => void signOut(room.role)}>
                <Icon name="out" />
                Sign out
              </button>
            )}
          </div>
        </div>
        {open && (
          <button type="button" class="shade" aria-label="Close the menu" onClick={() => setOpen(false)} />
        )}
        <main id="main" tabIndex={-1}>
          <Outlet room={room} />
        </main>
        <nav class="bar" aria-label="Main pages">
          {main.map((item) => (
            <MenuLink key={item.path} item={item} current={current(item)} />
          ))}
          <button
            type="button"
            class="menu-link"
            aria-expanded={open}
            aria-controls="menu"
            onClick={() => setOpen(!open)}
          >
            <Icon name="more" />
            More
          </button>
        </nav>
      </div>
    </RoleProvider>
  );
}

function MenuLink({ item, current }: { item: NavigationItem; current: boolean }) {
  return (
    <a class="menu-link" href={item.path} aria-current={current ? 'page' : undefined}>
      <Icon name={item.icon} />
      {item.label}
    </a>
  );
}
