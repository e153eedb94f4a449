-- name: blocked_services
select server, coalesce(reason, status) as why from services where host = $1 and not can_route;
