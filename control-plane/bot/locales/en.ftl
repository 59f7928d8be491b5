# What the bot says. The same messages with the same variables are in ru.ftl and uz.ftl (a test compares them).
# Amounts come as texts without the sign; numbers that choose a plural come as numbers.

## Commands, as Telegram lists them

cmd-balance = What I have earned
cmd-stats = Traffic and earnings with a chart
cmd-devices = My devices and why they earn or not
cmd-sessions = My latest sessions
cmd-withdraw = Withdraw money
cmd-referral = Invite friends
cmd-promo = Redeem a promo code
cmd-support = Write to support
cmd-consent = The terms: accept or withdraw
cmd-login = A code to sign in with
cmd-language = Change the language
cmd-topup = Top up a buyer’s balance with Stars
cmd-help = What I can do
cmd-admin = Overview for admins
cmd-users = Find users
cmd-payouts = Payouts that wait
cmd-system = State of the system
cmd-broadcast = Write to many
menu-open = Open

## Start, accounts, consent

welcome =
    Welcome to Traffic Share! Install the app, accept the terms and press Start: you earn for the bandwidth you share.
    All I can do: /help
welcome-back = Welcome back to Traffic Share.
banned = This account is banned. Write to support if you think that is a mistake: /support
not-a-user = I do not know you yet. Press /start first.
slow-down = Too much at once. Please wait a minute.
link-ask =
    Link this Telegram account to the Traffic Share user { $owner }? It then signs in as { $owner }, and what it earns is theirs.
    Go on only if you made this link yourself.
link-yes = Link
linked = Done: this Telegram account is linked to your Traffic Share account.
link-expired = This link was used or is too old. Ask for a new one in the app.
link-taken = This Telegram account belongs to another Traffic Share user.
link-too-many = There are as many Telegram accounts as there may be. Unlink one first.
link-forbidden = Telegram accounts can not be linked to this user.
buyer-link-ask =
    Link this Telegram account to the buyer { $buyer }? What you top up here then goes to that balance.
    Go on only if you made this link yourself.
buyer-linked = Done: you can top up the balance of { $buyer } here: /topup 25
buyer-link-expired = This link was used or is too old. Make a new one through the API.
buyer-link-taken = This Telegram account is linked to another buyer.
buyer-link-too-many = This buyer has as many Telegram accounts as there may be. Unlink one first.
buyer-link-forbidden = This buyer account is not active.
consent-ask =
    You can stop and withdraw this at any time: /consent
    Do you accept the terms, version { $version }?
consent-page = Page { $page } of { $pages } of the terms, version { $version }.
consent-next = Next ▶
consent-back = ◀ Back
consent-app = Read it in the app
consent-accept = I accept
consent-accepted = Accepted: terms { $version }. Press Start in the app and you share.
consent-given = You accepted the terms { $version } on { $date } (UTC).
consent-withdraw = Withdraw my consent
consent-withdraw-sure = Withdraw your consent? All your devices stop sharing at once. What you have earned stays yours.
consent-withdrawn =
    { $sessions ->
        [0] Your consent is withdrawn. Nothing was being shared.
        [one] Your consent is withdrawn. { $sessions } session was stopped.
       *[other] Your consent is withdrawn. { $sessions } sessions were stopped.
    }
consent-outdated = These are not the terms in force any more. Look again: /consent
login-code = Your Traffic Share code: { $code }
    { $minutes ->
        [one] It is good for { $minutes } minute.
       *[other] It is good for { $minutes } minutes.
    } Never give it to anyone.
login-code-limit = You have had enough codes for an hour. Try again later.

## Money and devices

balance =
    Your balance: ${ $available }
    On hold: ${ $pending }
    Withdrawn: ${ $withdrawn }
    Earned in all: ${ $lifetime }
balance-short =
    Your balance: ${ $available }
    On hold: ${ $pending }
live-short =
    Live: { $megabytes } MB, ${ $earned }
    { $state }
stats-day = Today
stats-week = 7 days
stats-month = 30 days
stats-caption =
    { $period }: { $gigabytes } GB, ${ $earned }
    { $sessions ->
        [one] { $sessions } session.
       *[other] { $sessions } sessions.
    } The chart shows gigabytes a day (UTC).
devices-none = You have no device yet. Install the app, sign in and press Start.
devices-head =
    { $count ->
        [one] You have { $count } device, { $earning } of them earns:
       *[other] You have { $count } devices, of them earn: { $earning }
    }
device-line =
    { $mark } { $name } ({ $os }, { $version })
    { $what } { $todo }
sessions-none = You have not shared yet.
sessions-head = Your latest sessions:
session-line = { $started }: { $megabytes } MB, ${ $earned }, { $state }
session-active = running
session-stopping = being settled
session-completed = completed
session-failed = failed
referral =
    Your code: { $code }
    { $invited ->
        [one] { $invited } person came with it, { $earning } of them earned.
       *[other] { $invited } people came with it, { $earning } of them earned.
    } It brought you ${ $earned }.
    You get { $percent } % of what they earn, on top.
referral-link = Send this to friends: { $link }

## Withdrawing

withdraw-amount =
    How much do you want to withdraw? Available: ${ $available }, at least ${ $minimum }.
    Write an amount, for example 5.00, or /cancel.
withdraw-all = All: ${ $available }
withdraw-too-little = You can withdraw from ${ $minimum } on. Available: ${ $available }. On hold: ${ $pending }.
withdraw-not-an-amount = That is no amount. Write it like this: 5.00
withdraw-over-available = You have ${ $available } available. Write a smaller amount.
withdraw-network = { $amount } USDT over which network?
withdraw-network-closed = Payouts over this network are closed at the moment. Choose another one.
withdraw-address = Send me the address on { $network } the money is to go to.
withdraw-bad-address = That is no address on { $network }: a letter is missing or wrong. Copy it again.
withdraw-confirm =
    Please check:
    { $amount } USDT over { $network }
    to { $address }

    What was sent to a wrong address can not be brought back.
withdraw-yes = Confirm
withdraw-no = Cancel
withdraw-made =
    Done: ${ $amount } wait to be released. I tell you of each step.
    Payout { $payment }
withdraw-over-daily = Your limit for today leaves ${ $left }. Start again with a smaller amount: /withdraw
withdraw-over-now = ${ $amount } are not available any more. Start again: /withdraw
cancelled = Cancelled.
nothing-to-cancel = There is nothing to cancel.
button-old = This button is too old.

## Notices

payout-title-requested = Payout requested
payout-title-processing = Payout released
payout-title-sent = Payout sent
payout-title-completed = Payout paid
payout-title-failed = Payout failed
payout-title-cancelled = Payout cancelled
payout-requested =
    A payout of ${ $amount } over { $network } to { $address } was requested and waits to be released.
    Was it not you? Cancel it in the app and write to support: /support
payout-processing = Your payout of ${ $amount } was released and is being sent over { $network }.
payout-sent =
    Your payout of ${ $amount } is on its way over { $network } to { $address }
    Transaction: { $transaction }
payout-completed =
    Paid: ${ $amount } over { $network } to { $address }
    Transaction: { $transaction }
payout-failed =
    Your payout of ${ $amount } over { $network } failed. The money is on your balance again.
    { $reason }
payout-cancelled =
    Your payout of ${ $amount } over { $network } was cancelled. The money is on your balance again.
    { $reason }
notice-session-completed =
    Session completed: { $megabytes } MB, ${ $earned }.
    It is paid out of the hold in some time; see /balance
notice-update =
    { $devices ->
        [one] A new version of the app is out: { $version }. Please update { $devices } device.
       *[other] A new version of the app is out: { $version }. Please update { $devices } devices.
    }
live-status =
    🟢 Sharing: { $device }
    { $megabytes } MB, ${ $earned }, { $speed } Mbit/s
    { $what }
live-ended =
    ⚪ Sharing has ended: { $device }
    { $megabytes } MB, ${ $earned }

## What buyers are told of abuse

abuse-account = About the buyer account { $account } at Traffic Share
abuse-seen-scan = What was seen: connections as programs make them that search the network or try hosts one after another.
abuse-seen-blocked = What was seen: many attempts to reach destinations or ports that are not allowed.
abuse-seen-target = What was seen: very many connections to one host, as when passwords are guessed or a host is flooded.
abuse-seen-reported = What was seen: somebody reported abuse that came from this account.
abuse-seen-other = What was seen: use of the network that looks like abuse.
abuse-warned = This is a warning. The account works on; if it happens again, it may be limited or suspended.
abuse-throttled = New connections are limited from now on, until somebody has looked at it. Open ones go on.
abuse-suspended = The account is suspended: it has no connections until somebody has looked at it. Its balance stays.
abuse-lifted = What was limited because of a suspicion of abuse is so no more.
abuse-message = Message: { $message }
abuse-do = What to do: stop what causes it, look after whom you gave access, and write to your contact at Traffic Share if you think it is a mistake.
abuse-do-contact = What to do: stop what causes it, look after whom you gave access, and write to { $contact } if you think it is a mistake.

## Promo codes, support, language, help

promo-ask = Send me the promo code, or /cancel.
promo-redeemed = ${ $bonus } were added to your balance.
promo-unknown = There is no such code.
promo-expired = This code is not valid any more.
promo-used-up = This code has been used as often as it may be.
promo-redeemed-before = You have used this code already.
too-many-tries = Too many tries. Come again in an hour.
support-ask = Write what it is about. An admin answers here. Or /cancel.
support-ask-on = What you write now is added to it. Or /cancel.
support-to = What you write now goes to: { $subject }
support-sent =
    Thank you. Your message is with support; the answer comes here.
    What else you write is added to it, up to your next command.
support-new = A new request
support-reply = Reply
support-answer = Support answered: { $subject }
support-answer-closed = This request is closed. A new one: /support
support-answer-cut = The answer goes on in the inbox of the app.
support-too-many = You have { $max } open requests already. Please wait for an answer.
support-latest =
    Your latest request: { $subject }
    Status: { $status }
support-open = waits for us
support-answered = answered
support-closed = closed
language-ask = Which language?
language-set = From now on I speak English.
help-head = What I can do:
help-admin = For admins:
not-understood = I did not understand that. Help: /help

## Telegram Stars

not-a-buyer = This Telegram account is not linked to a buyer. Open the link of your buyer account first.
topup-usage = How many dollars? From { $min } to { $max }, for example: /topup 25
topup-no-stars = That can not be paid in Telegram Stars at the moment.
topup-credited = Thank you! ${ $amount } are on your balance.
topup-returned = This payment fits no open invoice. Nothing was booked, your Stars come back.
checkout-unknown-order = There is no such invoice. Please ask for a new one.
checkout-wrong-amount = The amount is not that of the invoice. Please ask for a new one.
checkout-not-open = This invoice is paid or cancelled.
checkout-expired = This invoice is too old. Please ask for a new one.
checkout-being-paid = Somebody is paying this invoice right now.
checkout-not-active = This buyer account is not active.
pay-support = Trouble with a payment? Write to support with the day and the number of Stars: an admin can give them back.

## Admins

admin-only = Only admins can do that.
admin-overview =
    Users: { $users } ({ $banned } banned), devices: { $devices }
    Buyers: { $buyers }, { $active } active
    Sessions now: { $sessions }
    Payouts open: { $payouts }, ${ $amount }
    Flags open: { $flags }
admin-today = Today: { $gigabytes } GB, charged ${ $charged }, earned ${ $earned }, revenue ${ $revenue }
users-usage = Whom? A Telegram id, a @name, a referral code or an id: /users @ann
users-none = Nobody found.
users-more = There are more. Be more exact.
user-line =
    { $name } · { $status } · { $language }
    { $id }
    Telegram { $telegram }, devices { $devices }, available ${ $available }, on hold ${ $pending }
system-head = Version { $version }, up { $hours } h, load { $load }, memory { $memory } MB
system-gateway = Gateway { $id }: { $tunnels } tunnels, { $streams } streams{ $draining }
system-draining = , draining
system-no-gateway = No gateway is there.
system-no-redis = The live state can not be read at the moment.
system-well = Nothing is wrong.
system-alert = ⚠️ { $detail }
payouts-none = No payout waits.
payouts-more = And { $count } more. They come when these are decided.
payout-request =
    Payout of ${ $amount } over { $network }
    to { $address }
    Provider { $provider }
    Payment { $payment }
payout-approve = Approve
payout-refuse = Refuse
payout-back = Back
payout-reason-address = Address not acceptable
payout-reason-fraud = Looks like fraud
payout-reason-limits = Not at the moment
payout-approved-by = ✅ Approved by { $admin }
payout-approved-partly = ☑️ Approved by { $admin }: { $approvals } of { $needed }
payout-approved-short = { $approvals } of { $needed } approvals
payout-refused-by = ❌ Refused by { $admin }: { $reason }
payout-own = Nobody approves a payout to themselves.
payout-moved = This payout is { $status } by now.
payout-unknown = There is no such payout.
payout-unavailable = Cryptomus is not configured: nothing can be paid out. Set TS_CRYPTOMUS_MERCHANT_ID, …_PAYMENT_KEY and …_PAYOUT_KEY of the control plane.
payout-status-pending = waiting
payout-status-processing = released
payout-status-completed = paid
payout-status-failed = failed
payout-status-cancelled = cancelled
broadcast-target = Who is to get it?
broadcast-all = Everybody
broadcast-active = Active in 30 days
broadcast-admins = Admins
broadcast-language = Language: { $language }
broadcast-text = Send me the message, or /cancel.
broadcast-confirm =
    To: { $target }

    { $message }
broadcast-send = Send
broadcast-started =
    { $recipients ->
        [one] It is being sent to { $recipients } person.
       *[other] It is being sent to { $recipients } people.
    }
report-day =
    Daily report { $day } (UTC)

    Traffic: { $total } GB (up { $up } GB, down { $down } GB)
    Charged ${ $charged }, earned ${ $earned }, referrals ${ $referrals }, revenue ${ $revenue }
    Top-ups: ${ $topups }
    Payouts: { $payouts }, ${ $paid }
    Active: { $providers } providers, { $buyers } buyers; { $sessions } sessions completed
    New: { $newUsers } users, { $newBuyers } buyers
report-by-buyer = By buyer:
report-buyer = { $account } ({ $name }): { $gigabytes } GB, ${ $charged }
report-more = and { $count } more
report-chart = Gigabytes a day, { $days } days
receipt-paid = Payout paid: ${ $amount } in { $currency } over { $network }
receipt-failed = Payout failed: ${ $amount } in { $currency } over { $network }
receipt-target = To { $target }
receipt-transaction = Transaction { $transaction }
receipt-reason = Reason: { $reason }. The money is available to the provider again.
receipt-no-reason = none given
receipt-provider = Provider { $provider }
receipt-payment = Payment { $payment }
alert-raised = 🔴 { $detail }
alert-cleared = 🟢 Over: { $detail }

## The page for abuse reports, outside the bot

page-title = Report abuse
page-languages = Language
page-intro = Did traffic from one of our addresses harm you? Tell us here. We see who sent it, and answer; you need no account.
page-not-sent = Not sent yet: something is missing or wrong below.
page-missing = This is required.
page-future = This is in the future.
page-ip = Address the traffic came from
page-ip-hint = An IPv4 or IPv6 address, from your log.
page-ip-invalid = This is no IPv4 or IPv6 address.
page-when = When, in UTC
page-when-hint = As exactly as you know: addresses change their user.
page-when-invalid = This is no date with a time.
page-destination = Your server (if you like)
page-destination-hint = Its name or address.
page-destination-invalid = At most 253 characters.
page-port = Its port (if you know)
page-port-hint = Such as 443.
page-port-invalid = A number from 1 to 65535.
page-contact = How to reach you (if you like)
page-contact-hint = We use it for this report alone.
page-contact-invalid = At most 200 characters.
page-what = What happened
page-what-hint = A few lines of your log help most.
page-what-invalid = 10 to 4000 characters of text.
page-trap = Leave this empty
page-send = Send
page-status = What became of a report?
page-reference = Reference
page-secret = Secret
page-look = Look
page-back = Back
page-thanks = Thank you
page-received = Your report was received. Write both of these down: they show you our answer, and are shown only now.
page-none-title = No such report
page-none = There is no report with this reference and secret.
page-report = Report { $reference }
page-received-at = Received { $when }.
page-open = It waits for our answer.
page-answered = We have answered.
page-closed = It is closed.
page-acted = We acted against who sent the traffic.
page-not-found = We found no traffic of ours that fits.
page-no-abuse = We do not take it for abuse.
page-duplicate = It was reported before.
page-spam = It was no report.
page-answer = Our answer
page-too-large = This is too long. Please try again with fewer words.
page-too-many = That was often in a short time. Please try again later.
