import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import type { Role } from '../session/session.js';

const RoleContext = createContext<Role>('provider');

/** Says whose pages are below. */
export const RoleProvider = RoleContext.Provider;

/** Whose pages this part is on. */
export function useRole(): Role {
  return useContext(RoleContext);
}
