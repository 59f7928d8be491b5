import './buyer.css';
import type { Room } from '../shell/room.js';
import { Overview } from './overview.js';

export const room: Room = {
  role: 'buyer',
  name: 'Proxy',
  home: '/buyer',
  pages: [
    { path: '/buyer', title: 'Overview', page: Overview },
    { path: '/buyer/connect', title: 'Connect', lazy: true, page: () => import('./connect.js') },
    { path: '/buyer/usage', title: 'Usage', lazy: true, page: () => import('./usage.js') },
    { path: '/buyer/balance', title: 'Balance', lazy: true, page: () => import('./balance.js') },
    { path: '/buyer/sub-users', title: 'Sub-users', lazy: true, page: () => import('./sub-users.js') },
    { path: '/buyer/sub-users/:id', title: 'Sub-user', lazy: true, page: () => import('./sub-user.js') },
    { path: '/buyer/access', title: 'Passwords and tokens', lazy: true, page: () => import('./access.js') },
    { path: '/buyer/limits', title: 'Limits', lazy: true, page: () => import('./limits.js') },
    { path: '/buyer/locations', title: 'Locations', lazy: true, page: () => import('./locations.js') },
    { path: '/buyer/errors', title: 'Errors', lazy: true, page: () => import('./errors.js') },
  ],
  navigation: [
    { path: '/buyer', label: 'Overview', icon: 'home', main: true },
    { path: '/buyer/connect', label: 'Connect', icon: 'code', main: true },
    { path: '/buyer/usage', label: 'Usage', icon: 'chart', main: true },
    { path: '/buyer/balance', label: 'Balance', icon: 'wallet', main: true },
    { path: '/buyer/sub-users', label: 'Sub-users', icon: 'users', group: 'Account' },
    { path: '/buyer/access', label: 'Passwords and tokens', icon: 'key' },
    { path: '/buyer/limits', label: 'Limits', icon: 'shield' },
    { path: '/buyer/locations', label: 'Locations', icon: 'globe', group: 'Network' },
    { path: '/buyer/errors', label: 'Errors', icon: 'alert' },
  ],
};
