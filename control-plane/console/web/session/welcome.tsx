import { useEffect } from 'preact/hooks';
import { useLocation } from 'preact-iso/router';
import { Brand, Icon, type IconName } from '../shell/icons.js';
import { ThemeChoice } from '../shell/theme-choice.js';
import { type Role, signedInRoles } from './session.js';

const CHOICES: readonly { role: Role; icon: IconName; title: string; text: string }[] = [
  { role: 'provider', icon: 'wallet', title: 'I share my connection', text: 'Earnings, devices, payouts.' },
  { role: 'buyer', icon: 'globe', title: 'I use the proxy', text: 'Endpoints, usage, sub-users, top-ups.' },
  { role: 'admin', icon: 'server', title: 'I run the network', text: 'People, money, policy, health.' },
];

/** `/`: to the pages of whoever is signed in, or the choice of where to sign in. */
export function Welcome() {
  const { route } = useLocation();
  const roles = signedInRoles();
  const only = roles.length === 1 ? roles[0] : undefined;
  useEffect(() => {
    document.title = 'Traffic Share';
    if (only !== undefined) route(`/${only}`, true);
  }, [only]);
  return (
    <div class="gate">
      <div class="gate-head">
        <Brand />
        <ThemeChoice />
      </div>
      <main class="gate-card gate-wide">
        <h1>Welcome</h1>
        <p class="quiet">Where do you want to go?</p>
        <ul class="choices">
          {CHOICES.map(({ role, icon, title, text }) => (
            <li key={role}>
              <a class="choice" href={roles.includes(role) ? `/${role}` : `/signin/${role}`}>
                <span class="choice-icon">
                  <Icon name={icon} />
                </span>
                <span>
                  <span class="choice-title">{title}</span>
                  <span class="quiet small">{text}</span>
                </span>
              </a>
            </li>
          ))}
        </ul>
      </main>
      <p class="quiet small gate-foot">
        For programs: <a href="/docs">the API's documents</a>
      </p>
    </div>
  );
}
