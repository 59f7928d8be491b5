import './style/base.css';
import './style/parts.css';
import './style/shell.css';
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { LocationProvider, useLocation } from 'preact-iso/router';
import { asApiError } from './api/problem.js';
import { Failure, Loading } from './parts/states.js';
import { takeLaunchParameters } from './session/mini-app.js';
import { MiniAppPage } from './session/mini-app-page.js';
import { followOtherTabs, type Role, readSession } from './session/session.js';
import { SignIn } from './session/sign-in.js';
import { takeTelegramLogin } from './session/telegram-login.js';
import { Welcome } from './session/welcome.js';
import { Layout } from './shell/layout.js';
import { NotFound } from './shell/outlet.js';
import type { Room } from './shell/room.js';
import { restoreTheme } from './shell/theme.js';
import { Toasts } from './shell/toasts.js';

/** Each role's pages are a file of their own: nobody loads another role's. */
const ROOMS: Readonly<Record<Role, () => Promise<{ room: Room }>>> = {
  provider: () => import('./provider/index.js'),
  buyer: () => import('./buyer/index.js'),
  admin: () => import('./admin/index.js'),
};
const isRole = (name: string | undefined): name is Role => name !== undefined && Object.hasOwn(ROOMS, name);

function Pages() {
  const { path } = useLocation();
  const [, first, second] = path.split('/');
  if (isRole(first)) return <RoomOf key={first} role={first} />;
  if (path === '/') return <Welcome />;
  if (first === 'app') return <MiniAppPage />;
  if (first === 'signin') return isRole(second) ? <SignIn key={second} role={second} /> : <Welcome />;
  return <NotFound home="/" />;
}

/** The role's pages, for who is signed in as it; others sign in first and come back. */
function RoomOf({ role }: { role: Role }) {
  const { route, url } = useLocation();
  const [room, setRoom] = useState<Room>();
  const [failed, setFailed] = useState<unknown>();
  const signedIn = readSession(role) !== null;
  useEffect(() => {
    if (!signedIn)
      route(url === `/${role}` ? `/signin/${role}` : `/signin/${role}?to=${encodeURIComponent(url)}`, true);
  }, [signedIn]);
  useEffect(() => {
    ROOMS[role]().then((module) => setRoom(module.room), setFailed);
  }, [role]);
  if (failed !== undefined) return <Failure error={asApiError(failed)} retry={() => location.reload()} />;
  if (!signedIn || room === undefined) return <Loading lines={6} />;
  return <Layout room={room} />;
}

/** Addresses that are ours to show; others, such as the API's documents, the browser loads. */
const OURS = /^\/(?:$|\?|(?:signin|app|provider|buyer|admin)(?:[/?]|$))/;

restoreTheme();
takeLaunchParameters();
takeTelegramLogin();
followOtherTabs();
const place = document.getElementById('app');
if (place !== null)
  render(
    <LocationProvider scope={OURS}>
      <Pages />
      <Toasts />
    </LocationProvider>,
    place,
  );
